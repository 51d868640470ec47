//! A bound on connections, in all and from one address.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hashbrown::HashMap;

/// How many connections there are, and from where.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Held for a few instructions and never across an await.
    taken: Arc<Mutex<Taken>>,
    per_address: usize,
    overall: usize,
}

#[derive(Debug, Default)]
struct Taken {
    overall: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to one connection; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    places: Places,
}

impl Places {
    pub(super) fn new(per_address: usize, overall: usize) -> Self {
        Self { taken: Arc::default(), per_address, overall }
    }

    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        // An IPv4 client of a port that is open to both is the same client.
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.overall >= self.overall
            || taken.by_address.get(&address).is_some_and(|n| *n >= self.per_address)
        {
            return None;
        }
        taken.overall += 1;
        *taken.by_address.entry(address).or_default() += 1;
        Some(Place { address, places: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.overall -= 1;
        if let Some(number) = taken.by_address.get_mut(&self.address) {
            *number -= 1;
            if *number == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_in_all() {
        let places = Places::new(2, 3);
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        let first = places.take(one).expect("there is room");
        let _second = places.take(mapped).expect("there is room");
        assert!(places.take(one).is_none(), "two from one address");
        let _third = places.take(other).expect("there is room");
        assert!(places.take(other).is_none(), "three in all");
        drop(first);
        assert!(places.take(one).is_some());
        assert_eq!(places.taken.lock().expect("no panic").by_address.len(), 2);
    }
}
