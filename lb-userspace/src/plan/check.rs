//! Whether what is desired can be at all.
//!
//! In: image, desired, settings. Out: nothing, or the contradiction. The configuration was validated long before; what is
//! found here is a fault of the program.

use lb_common::{DIRECTORY_WAYS, NAME_LEN, Settings};

use super::PlanError;
use crate::desired::{Desired, DesiredPool, PoolKey};
use crate::image::Image;
use crate::spec::MAGLEV_SIZES;

/// Most backends of a pool: indexes have 16 bits, 0 is nobody, and one is left for an entry under replacement.
const MOST_BACKENDS: usize = 65_534;
/// Entries of the sources map.
const MOST_SOURCES: usize = 256;

pub(super) fn check(image: &Image, desired: &Desired, settings: &Settings) -> Result<(), PlanError> {
    let words = image.directory.len();
    if words != settings.directory_buckets as usize * DIRECTORY_WAYS {
        return contradiction(format!(
            "the directory has {words} words, the program expects {} buckets of {DIRECTORY_WAYS}",
            settings.directory_buckets
        ));
    }
    for (listener, service) in &desired.services {
        if service.name.len() >= NAME_LEN {
            return Err(PlanError::name_too_long(&service.name));
        }
        if !desired.pools.contains_key(&service.pool) {
            return contradiction(format!(
                "{listener} names the pool {}, which is not desired",
                service.pool
            ));
        }
        if listener.port == Some(0) {
            return contradiction(format!("{listener} names port 0"));
        }
    }
    desired.pools.iter().try_for_each(|(key, pool)| check_pool(key, pool))
}

fn check_pool(key: &PoolKey, pool: &DesiredPool) -> Result<(), PlanError> {
    if key.name.len() >= NAME_LEN {
        return Err(PlanError::name_too_long(&key.name));
    }
    if !MAGLEV_SIZES.contains(&pool.table_len) {
        return contradiction(format!(
            "pool {key} wants a table of {} slots, sizes are {MAGLEV_SIZES:?}",
            pool.table_len
        ));
    }
    if pool.backends.len() > MOST_BACKENDS {
        return contradiction(format!(
            "pool {key} has {} backends, a pool holds {MOST_BACKENDS}",
            pool.backends.len()
        ));
    }
    for (backend, wish) in &pool.backends {
        if !key.variant.includes(backend.ip) {
            return contradiction(format!("pool {key} names {backend}, which is of another family"));
        }
        if wish.weight > u32::from(u16::MAX) {
            return contradiction(format!("backend {backend} of pool {key} has weight {}", wish.weight));
        }
        if wish.sources.len() > MOST_SOURCES {
            return contradiction(format!(
                "backend {backend} of pool {key} has {} sources",
                wish.sources.len()
            ));
        }
    }
    Ok(())
}

fn contradiction(reason: String) -> Result<(), PlanError> {
    Err(PlanError::Contradiction(reason))
}
