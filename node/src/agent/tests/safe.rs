//! A source of secrets that opens when the test says so.

use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;
use muster_core::spec::Driver;

use crate::driver::{NoSecrets, SecretSource, SecretValues, StartOrder};

/// The value of every secret.
pub const VALUE: &str = "hunter2";

#[derive(Default)]
pub struct Safe {
    pub is_open: Mutex<bool>,
}

impl SecretSource for Safe {
    fn fetch<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, Result<SecretValues, NoSecrets>> {
        async move {
            if !*self.is_open.lock().unwrap() {
                return Err(NoSecrets("the safe is locked".to_owned()));
            }
            let Driver::Exec(exec) = &order.spec.driver;
            Ok(exec.secrets.values().map(|name| (name.clone(), VALUE.into())).collect())
        }
        .boxed()
    }
}
