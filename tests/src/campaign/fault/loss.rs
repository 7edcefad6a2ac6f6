//! Packets are lost, in both directions of one host or at all hosts. It costs nothing.

use super::{Cost, Fault, Injury, long};
use crate::campaign::Scene;
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

/// So many of a hundred packets.
pub struct Loss(pub u8);

impl Fault for Loss {
    fn name(&self) -> &'static str {
        match self.0 {
            0..=1 => "1 % of the packets lost",
            2..=5 => "5 % of the packets lost",
            _ => "20 % of the packets lost",
        }
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        // A fifth lost at every host in both directions would be far more than a fifth of each exchange.
        let hosts =
            if rng.percent(50) && self.0 <= 5 { scene.cluster.others(&[]) } else { vec![scene.victim(rng)?] };
        for host in &hosts {
            scene.cluster.network().lose(host, self.0)?;
        }
        let told = format!("{} % of what arrives at {} is lost", self.0, hosts.join(" "));
        let heal = Box::new(move |cluster: &mut Cluster| {
            hosts.iter().try_for_each(|host| cluster.network().heal(host))
        });
        Ok(Injury { told, lasts: long(rng), cost: Cost::nothing(), heal })
    }
}
