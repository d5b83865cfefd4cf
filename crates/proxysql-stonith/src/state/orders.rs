//! The operator's standing orders, suspension and releases. Commands write them, and the agent reads them in each tick.
//!
//! They work while Orchestrator and the agent are down. They fail closed: unreadable orders are no orders.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stonith_core::node::Node;
use stonith_core::orders::{Orders, Release};

use super::error::StateError;
use super::{StateDir, VERSION, durable_file, from_json, lock, to_json};
use crate::clock::Now;

/// The largest orders file, in bytes.
const ORDERS_MAX_BYTES: u64 = 1024 * 1024;

/// The largest number of releases that are kept. The oldest order is dropped first.
const RELEASES_MAX: usize = 1_000;

/// How long a command waits for another command's lock.
const WAIT_FOR_ORDERS: Duration = Duration::from_secs(5);

/// A pause of all fencing and unfencing, until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// The operator's reason.
    pub reason: String,
    /// The user who ordered it.
    pub by: String,
    /// When it was ordered, s since 1970.
    pub from_s: i64,
    /// When it ends, s since 1970. This time applies after a reboot of the host.
    pub until_s: i64,
    /// The boot in which it was ordered.
    pub boot_id: String,
    /// When it ends, ms of that boot's clock. Within that boot, setting the wall clock changes nothing.
    pub until_boot_ms: u64,
}

impl Suspension {
    /// The time until it ends; `None` once it is over.
    pub fn left(&self, now: &Now) -> Option<Duration> {
        let left = if !now.boot_id.is_empty() && now.boot_id == self.boot_id {
            Duration::from_millis(self.until_boot_ms.saturating_sub(now.boot_ms))
        } else {
            Duration::from_secs(u64::try_from(self.until_s.saturating_sub(now.wall_s)).unwrap_or(0))
        };
        Some(left).filter(|left| !left.is_zero())
    }
}

/// The orders in force.
#[derive(Debug, Default)]
pub struct StandingOrders {
    /// The orders as [`stonith_core::decide`] takes them.
    pub orders: Orders,
    /// The whole suspension, for reports.
    pub suspension: Option<Suspension>,
    /// Why orders may be lost. The lost ones suspend and release nothing, so this must be reported.
    pub problem: Option<StateError>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct OrdersFile {
    version: u32,
    proxy: Option<Node>,
    #[serde(default)]
    suspension: Option<Suspension>,
    #[serde(default)]
    released: BTreeMap<Node, Release>,
}

impl StateDir {
    /// Reads the orders in force. A suspension whose time is over is left out.
    pub fn orders(&self, now: &Now) -> StandingOrders {
        match self.read_orders() {
            Ok(file) => {
                let suspension = file.suspension.filter(|suspension| suspension.left(now).is_some());
                let suspended = suspension.as_ref().map(|suspension| suspension.reason.clone());
                let orders = Orders { suspended, released: file.released, now: None };
                StandingOrders { orders, suspension, problem: None }
            }
            Err(problem) => StandingOrders { problem: Some(problem), ..StandingOrders::default() },
        }
    }

    /// Suspends for a while; replaces an earlier suspension.
    ///
    /// # Errors
    /// The order can't be written, so nothing is suspended.
    pub fn suspend(&self, reason: &str, by: &str, duration: Duration, now: &Now) -> Result<Suspension, StateError> {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let seconds = i64::try_from(duration.as_secs().max(1)).unwrap_or(i64::MAX);
        let suspension = Suspension {
            reason: reason.to_owned(),
            by: by.to_owned(),
            from_s: now.wall_s,
            until_s: now.wall_s.saturating_add(seconds),
            boot_id: now.boot_id.clone(),
            until_boot_ms: now.boot_ms.saturating_add(ms),
        };
        self.change_orders(|file| file.suspension = Some(suspension.clone()))?;
        Ok(suspension)
    }

    /// Ends a suspension. Returns it if it was still in force.
    ///
    /// # Errors
    /// The order can't be written, so the suspension is still in force.
    pub fn resume(&self, now: &Now) -> Result<Option<Suspension>, StateError> {
        let ended = self.change_orders(|file| file.suspension.take())?;
        Ok(ended.filter(|suspension| suspension.left(now).is_some()))
    }

    /// Releases a node's evidence up to `release`. Earlier releases of the node stay in force.
    ///
    /// # Errors
    /// The release can't be written, so nothing is released.
    pub fn release(&self, node: &Node, release: Release) -> Result<(), StateError> {
        self.change_orders(|file| {
            let kept = file.released.entry(node.clone()).or_default();
            *kept = kept.and(release);
            while file.released.len() > RELEASES_MAX {
                let oldest = file.released.iter().filter(|(other, _)| *other != node);
                let Some(oldest) = oldest.min_by_key(|(_, r)| r.ordered_s).map(|(node, _)| node.clone()) else {
                    return;
                };
                file.released.remove(&oldest);
            }
        })
    }

    fn change_orders<T>(&self, change: impl FnOnce(&mut OrdersFile) -> T) -> Result<T, StateError> {
        durable_file::make_dir(&self.dir)?;
        let path = self.orders_path();
        let _lock = lock::wait_for_lock(&self.dir.join(format!("orders-{}.lock", self.stem)), WAIT_FOR_ORDERS)?;
        let mut file = match self.read_orders() {
            Ok(file) => file,
            // The break-glass must work, so a corrupt file is set aside to look at.
            Err(problem) if problem.is_corrupt() => {
                durable_file::set_aside(&path)?;
                OrdersFile::default()
            }
            Err(problem) => return Err(problem),
        };
        let outcome = change(&mut file);
        file.version = VERSION;
        file.proxy = Some(self.proxy.clone());
        durable_file::write(&path, durable_file::BESIDE, &to_json(&file, &path)?)?;
        Ok(outcome)
    }

    fn read_orders(&self) -> Result<OrdersFile, StateError> {
        let path = self.orders_path();
        let Some(bytes) = durable_file::read(&path, ORDERS_MAX_BYTES)? else { return Ok(OrdersFile::default()) };
        self.check_head(&path, &bytes)?;
        from_json(&bytes, &path)
    }

    fn orders_path(&self) -> PathBuf {
        self.dir.join(format!("orders-{}.json", self.stem))
    }
}
