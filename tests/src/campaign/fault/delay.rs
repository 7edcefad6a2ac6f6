//! Packets of a host arrive late: all by the same time, or each by another, out of order and sometimes twice. Within
//! the bounds for which the timing was chosen it costs nothing.

use super::{Cost, Fault, Injury, long};
use crate::campaign::Scene;
use crate::harness::relay::{Relay, Weather};
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

/// Late, in order.
pub struct Delayed;

impl Fault for Delayed {
    fn name(&self) -> &'static str {
        "packets delayed"
    }

    fn obstacle(&self) -> Option<String> {
        Relay::obstacle()
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let delay_ms = rng.between(2, 25);
        let weather = Weather {
            delay_ms,
            jitter_ms: rng.between(0, 10),
            in_order: true,
            doubled_percent: 0,
            seed: rng.number(),
        };
        under(scene, rng, weather)
    }
}

/// Late, out of order, some twice.
pub struct Reordered;

impl Fault for Reordered {
    fn name(&self) -> &'static str {
        "packets reordered and doubled"
    }

    fn obstacle(&self) -> Option<String> {
        Relay::obstacle()
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let weather = Weather {
            delay_ms: 1,
            jitter_ms: rng.between(5, 30),
            in_order: false,
            doubled_percent: 5,
            seed: rng.number(),
        };
        under(scene, rng, weather)
    }
}

fn under(scene: &mut Scene, rng: &mut Rng, weather: Weather) -> Result<Injury, HarnessError> {
    let host = scene.victim(rng)?;
    let told = format!(
        "packets from and to {} take {} to {} ms more",
        scene.describe(&host),
        weather.delay_ms,
        weather.delay_ms + weather.jitter_ms
    );
    let relay = Relay::insert(scene.cluster.network(), &host, weather)?;
    let heal = Box::new(move |_: &mut Cluster| relay.remove());
    Ok(Injury { told, lasts: long(rng), cost: Cost::nothing(), heal })
}
