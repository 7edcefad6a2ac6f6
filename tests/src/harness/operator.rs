//! What an operator does, through the API.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::spec::ServiceSpec;
use muster_core::spec::file::ServiceFile;
use muster_proto::v1;

use super::api::Client;
use super::{Api, HarnessError, wait};

/// How long an act may take to show.
pub const ACT_TIMEOUT: Duration = Duration::from_secs(15);

/// The declarations of a service file.
///
/// # Errors
/// When it is wrong.
pub fn declarations(file: &str) -> Result<Vec<v1::ServiceSpec>, HarnessError> {
    let wrong = |e: &dyn std::fmt::Display| HarnessError::ServiceFile(e.to_string());
    let file: ServiceFile = toml::from_str(file).map_err(|e| wrong(&e))?;
    let specs: Vec<ServiceSpec> = file.try_into().map_err(|e| wrong(&e))?;
    Ok(specs.iter().map(muster_wire::spec_to_proto).collect())
}

impl Api {
    /// Declares the services of a service file.
    ///
    /// # Errors
    /// When it is wrong or refused.
    pub fn apply(&self, file: &str) -> Result<(), HarnessError> {
        let request = v1::ApplyRequest { services: declarations(file)?, ..v1::ApplyRequest::default() };
        let apply = |mut c: Client| {
            let request = request.clone();
            async move { c.apply(request).await }
        };
        self.ask("apply", apply).map(|_| ())
    }

    /// Looks at the status until there is something to see.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`].
    pub fn until<T>(
        &self,
        limit: Duration,
        what: &str,
        look: impl Fn(&v1::ClusterStatus) -> Result<T, String>,
    ) -> Result<T, HarnessError> {
        wait::until(limit, what, || self.status().map_err(|e| e.to_string()).and_then(|s| look(&s)))
    }

    /// Who leads.
    ///
    /// # Errors
    /// When nobody does.
    pub fn leader(&self) -> Result<String, HarnessError> {
        self.until(Duration::from_secs(5), "a leader", |s| {
            if s.leader.is_empty() { Err("none".to_owned()) } else { Ok(s.leader.clone()) }
        })
    }

    /// Hands the leadership over and waits until it has moved.
    ///
    /// # Errors
    /// When it is refused or does not move.
    pub fn make_leader(&self, node: &str) -> Result<(), HarnessError> {
        if self.leader()? == node {
            return Ok(());
        }
        let request = v1::HandOverRequest { to: node.to_owned() };
        let hand_over = |mut c: Client| {
            let request = request.clone();
            async move { c.transfer_leader(request).await }
        };
        self.ask("transfer-leader", hand_over)?;
        self.until(ACT_TIMEOUT, &format!("{node} to lead"), |s| {
            if s.leader == node { Ok(()) } else { Err(format!("'{}' leads", s.leader)) }
        })
    }

    /// Wishes a node empty.
    ///
    /// # Errors
    /// When it is refused.
    pub fn drain(&self, node: &str) -> Result<v1::PlanReply, HarnessError> {
        let request = v1::DrainRequest { node: node.to_owned(), ..v1::DrainRequest::default() };
        self.ask("drain", move |mut c| {
            let request = request.clone();
            async move { c.drain(request).await }
        })
    }

    /// Takes the wish back.
    ///
    /// # Errors
    /// When it is refused.
    pub fn undrain(&self, node: &str) -> Result<(), HarnessError> {
        self.act_on_node(node, v1::act_on_node_request::Act::Undrain(true))
    }

    /// Acts on a node.
    ///
    /// # Errors
    /// When it is refused.
    pub fn act_on_node(&self, node: &str, act: v1::act_on_node_request::Act) -> Result<(), HarnessError> {
        let request = v1::ActOnNodeRequest { request: None, node: node.to_owned(), act: Some(act) };
        let ask = move |mut c: Client| {
            let request = request.clone();
            async move { c.act_on_node(request).await }
        };
        self.ask("act on node", ask).map(|_| ())
    }

    /// Acts on a service.
    ///
    /// # Errors
    /// When it is refused.
    pub fn act_on_service(
        &self,
        service: &str,
        act: v1::act_on_service_request::Act,
    ) -> Result<(), HarnessError> {
        let request = v1::ActOnServiceRequest { request: None, service: service.to_owned(), act: Some(act) };
        let ask = move |mut c: Client| {
            let request = request.clone();
            async move { c.act_on_service(request).await }
        };
        self.ask("act on service", ask).map(|_| ())
    }

    /// Removes a service and waits until nothing of it is left.
    ///
    /// # Errors
    /// When it is refused or something of it stays.
    pub fn remove_service(&self, service: &str) -> Result<(), HarnessError> {
        self.act_on_service(service, v1::act_on_service_request::Act::Remove(true))?;
        self.until(ACT_TIMEOUT, &format!("{service} to be gone"), |s| {
            let left = s.services.iter().find(|s| s.name == service);
            left.map_or(Ok(()), |s| Err(format!("it is {}", s.state)))
        })
    }

    /// Wishes a service elsewhere.
    ///
    /// # Errors
    /// When it is refused.
    pub fn move_service(&self, service: &str, to: &str, failover: bool) -> Result<(), HarnessError> {
        let request = v1::MoveRequest {
            service: service.to_owned(),
            to: to.to_owned(),
            failover,
            ..v1::MoveRequest::default()
        };
        let ask = move |mut c: Client| {
            let request = request.clone();
            async move { c.r#move(request).await }
        };
        self.ask("move", ask).map(|_| ())
    }

    /// Annotates a service: the smallest write.
    ///
    /// # Errors
    /// When it is not acknowledged.
    pub fn annotate(&self, service: &str, key: &str, value: &str) -> Result<(), HarnessError> {
        let request = v1::AnnotateRequest {
            request: None,
            service: service.to_owned(),
            key: key.to_owned(),
            value: Some(value.to_owned()),
        };
        let ask = move |mut c: Client| {
            let request = request.clone();
            async move { c.annotate(request).await }
        };
        self.ask("annotate", ask).map(|_| ())
    }

    /// The annotations of a service.
    ///
    /// # Errors
    /// When nobody can answer.
    pub fn annotations(&self, service: &str) -> Result<BTreeMap<String, String>, HarnessError> {
        let request = v1::ListServicesRequest { names: vec![service.to_owned()], stale: false };
        let ask = move |mut c: Client| {
            let request = request.clone();
            async move { c.list_services(request).await }
        };
        let reply = self.ask("service show", ask)?;
        Ok(reply.services.into_iter().next().map(|s| s.annotations).unwrap_or_default())
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create_token(&self, ttl: Duration, uses: u32) -> Result<String, HarnessError> {
        let request = v1::CreateTokenRequest {
            request: None,
            role: v1::Role::Auto.into(),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            uses,
        };
        let ask = move |mut c: Client| async move { c.create_token(request).await };
        self.ask("token create", ask).map(|reply| reply.token)
    }
}
