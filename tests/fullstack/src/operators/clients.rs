//! Operators who write and read annotations.

use std::time::Duration;

use muster_proto::v1;
use muster_tests::sim::rng::Rng;
use tonic::Code;

use super::{Agents, Agreement, Setting, now_ns, timed, within};
use crate::invariants::history::{Deed, Operation, Register};
use crate::mutant::Mutant;

/// How many there are.
pub(super) const COUNT: u64 = 3;
/// The keys change so often, in nanoseconds: no register's history grows long.
const KEY_EVERY_NS: u64 = 8_000_000_000;
/// The services that are annotated.
const ANNOTATED: [&str; 2] = ["alone-0", "many"];
/// How often a write is tried, each time under the same number.
const TRIES: u64 = 3;

/// One of them.
pub(super) async fn run(number: u64, setting: Setting, agents: Agents, mut rng: Rng) {
    let mut written = 0;
    while !Agreement::is(&setting.agreement.end) {
        let service = rng.pick(&ANNOTATED).unwrap_or("many");
        let key = format!("k{}", now_ns() / KEY_EVERY_NS);
        let register = (service.to_owned(), key);
        if rng.percent(50) {
            written += 1;
            write(&setting, &agents, &mut rng, register, number, written).await;
        } else {
            read(&setting, &agents, &mut rng, register).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.between(20, 400))).await;
    }
    if number == 1 {
        for register in setting.history.registers() {
            while !read(&setting, &agents, &mut rng, register.clone()).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Agreement::set(&setting.agreement.read_out);
    }
}

async fn write(setting: &Setting, agents: &Agents, rng: &mut Rng, register: Register, number: u64, seq: u64) {
    let value = format!("{number}-{seq}");
    let request = v1::AnnotateRequest {
        request: Some(v1::RequestId { client: 1_000 + number, seq }),
        service: register.0.clone(),
        key: register.1.clone(),
        value: Some(value.clone()),
    };
    let called_ns = now_ns();
    let mut answered_ns = None;
    for _ in 0..TRIES {
        match within(agents.any(rng).annotate(timed(request.clone()))).await {
            Ok(_) => {
                answered_ns = Some(now_ns());
                break;
            }
            Err(status) => tracing::debug!(code = ?status.code(), status = status.message(), "not written"),
        }
    }
    setting.history.add(register, Operation { deed: Deed::Wrote(value), called_ns, answered_ns });
}

/// True when it was answered.
async fn read(setting: &Setting, agents: &Agents, rng: &mut Rng, register: Register) -> bool {
    let stale = setting.mutant == Some(Mutant::LocalReads);
    let request = v1::ListServicesRequest { names: vec![register.0.clone()], stale };
    let called_ns = now_ns();
    let value = match within(agents.any(rng).list_services(timed(request))).await {
        Ok(reply) => {
            let service = reply.into_inner().services.into_iter().next();
            service.and_then(|service| service.annotations.get(&register.1).cloned())
        }
        // A node that has not heard of the service yet says so, when it answers for itself.
        Err(status) if stale && status.code() == Code::NotFound => None,
        Err(_) => return false,
    };
    let operation = Operation { deed: Deed::Read(value), called_ns, answered_ns: Some(now_ns()) };
    setting.history.add(register, operation);
    true
}
