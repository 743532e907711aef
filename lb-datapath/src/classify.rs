//! Which service a packet is for.
//!
//! In: destination address, port, protocol. Out: the service's id and entry, or nothing. The directory is a hash table with words of
//! (tag, id); the service it names is compared whole. A packet of nobody's costs one hash and, as a rule, one word.

use lb_common::{Address, FEATURE_ANY_PORT, Forward, Service, WhenNone, Word, service_policy};

use crate::{
    constants::{Constants, has},
    hash,
    tables::Tables,
};

/// A word that once named a service; the search goes on after it.
const REMOVED: u32 = u32::MAX;

/// `Service::policy` as it was read: one packet sees one policy.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Policy(pub u64);

impl Policy {
    /// Pool id; 0 = none.
    #[inline(always)]
    pub const fn pool(self) -> u32 {
        (self.0 >> service_policy::POOL) as u32 & 0xffff
    }

    /// Whether packets are forwarded this way.
    #[inline(always)]
    pub const fn is(self, forward: Forward) -> bool {
        (self.0 >> service_policy::FORWARD) & 0xff == forward as u64
    }

    /// 1 if replies come back through here, to be translated (nat, full-nat), else 0. A number, for who decides without a branch.
    #[inline(always)]
    pub const fn translated_bit(self) -> u32 {
        const TRANSLATED: u32 = 1 << Forward::FullNat as u32 | 1 << Forward::Nat as u32;
        (TRANSLATED >> ((self.0 >> service_policy::FORWARD) & 7)) & 1
    }

    /// Number of [`lb_common::Affinity`].
    #[inline(always)]
    pub const fn affinity(self) -> u64 {
        (self.0 >> service_policy::AFFINITY) & 0xff
    }

    /// Whether clients are answered when no backend is usable.
    #[inline(always)]
    pub const fn answers_when_none(self) -> bool {
        (self.0 >> service_policy::WHEN_NONE) & 0xff == WhenNone::Reset as u64
    }

    /// Whether packets are delivered to this host (services on lo).
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        (self.0 >> service_policy::FLAGS) & service_policy::FLAG_LOOPBACK != 0
    }

    /// Whether what is sent after translation is put into a tunnel (checks through ipip).
    #[inline(always)]
    pub const fn wraps(self) -> bool {
        (self.0 >> service_policy::FLAGS) & service_policy::FLAG_WRAP != 0
    }

    /// Whether a TCP flow is reset when its backend no longer takes it.
    #[inline(always)]
    pub const fn resets_lost(self) -> bool {
        (self.0 >> service_policy::FLAGS) & service_policy::FLAG_RESETS_LOST != 0
    }
}

/// A service found.
pub struct Found<'t> {
    /// Its id.
    pub id: u16,
    /// Its entry.
    pub service: &'t Service,
    /// Its policy as it was read.
    pub policy: Policy,
    /// Its salt ([`hash::salt`]).
    pub salt: u64,
}

/// The service of (vip, port, protocol), if there is one: the listener on that port before the one on every port.
#[inline(always)]
pub fn service<'t, T: Tables>(
    tables: &'t T,
    destination: &Address,
    port_be: u16,
    protocol: u8,
) -> Option<Found<'t>> {
    let exact = named(tables, tables.listener(destination, port_be, protocol));
    if exact.is_some() || !has(tables.constants(), FEATURE_ANY_PORT) {
        return exact;
    }
    named(tables, tables.listener(destination, 0, protocol))
}

/// The service that a word or a look-up named: its id + 1, or 0.
#[inline(always)]
fn named<T: Tables>(tables: &T, answer: u64) -> Option<Found<'_>> {
    let id = hash::low(answer).wrapping_sub(1);
    let service = if answer == 0 { None } else { tables.service(id) }?;
    let policy = Policy(service.policy.load());
    #[expect(clippy::cast_possible_truncation, reason = "service ids have 16 bits; the array is no longer")]
    let found = Found { id: id as u16, service, policy, salt: service.salt };
    if policy.0 == 0 { None } else { Some(found) }
}

/// What the first look at the directory says.
pub enum Glance<'t> {
    /// It is this service.
    Found(Found<'t>),
    /// There is none.
    Nobody,
    /// [`service`] knows: the bucket is full, or a word's tag is that of another listener (once in 2^32).
    Unsure,
}

/// [`service`], as far as one bucket and the first word with the tag tell: as good as always. The search ends before the service is
/// looked at, so the way on from here exists once, not once for every word. `destination_word`: the destination's [`hash::address_word`].
#[inline(always)]
pub fn glance<'t, T: Tables>(
    tables: &'t T,
    destination: (&Address, u64),
    port_be: u16,
    protocol: u8,
) -> Glance<'t> {
    let exact = glance_at(tables, destination, port_be, protocol);
    if has(tables.constants(), FEATURE_ANY_PORT) && matches!(exact, Glance::Nobody) {
        return glance_at(tables, destination, 0, protocol);
    }
    exact
}

#[inline(always)]
fn glance_at<'t, T: Tables>(
    tables: &'t T,
    (destination, destination_word): (&Address, u64),
    port_be: u16,
    protocol: u8,
) -> Glance<'t> {
    let salt = hash::salt_of(tables.constants(), destination_word, port_be, protocol);
    let position = hash::directory_of(tables.constants(), salt);
    let Some(bucket) = tables.directory(position.bucket) else { return Glance::Unsure };
    let mut tagged = REMOVED;
    for word in &bucket.words {
        let word = word.load();
        if word == 0 {
            return Glance::Nobody;
        }
        if (word >> 32) as u32 == position.tag {
            tagged = hash::low(word);
            break;
        }
    }
    match named(tables, tagged as u64) {
        // The salt as computed, not as read: the hash of the flow need not wait for the service.
        Some(found) if is_at(found.service, destination, port_be, protocol) => {
            Glance::Found(Found { salt, ..found })
        }
        _ => Glance::Unsure,
    }
}

#[inline(always)]
fn is_at(service: &Service, vip: &Address, port_be: u16, protocol: u8) -> bool {
    service.port_be == port_be && service.protocol == protocol && same(&service.vip, vip)
}

/// Any service of the vip, if the address is a vip.
#[inline(always)]
pub fn vip<'t, T: Tables>(tables: &'t T, address: &Address) -> Option<Found<'t>> {
    named(tables, tables.listener(address, 0, 0))
}

/// Whether two addresses are the same. Written out: a comparison of arrays becomes a call of `bcmp` on BPF.
#[inline(always)]
pub const fn same(a: &Address, b: &Address) -> bool {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.words, b.words);
    (a0 ^ b0) | (a1 ^ b1) | (a2 ^ b2) | (a3 ^ b3) == 0
}

/// The whole search, by plain numbers (see cold.rs): the id + 1 of the service that listens there, or 0. Port and protocol 0 name any
/// service of the vip.
#[inline(always)]
pub fn search<T: Tables>(tables: &T, destination: &Address, port_be: u16, protocol: u8) -> u64 {
    let position = hash::directory(tables.constants(), destination, port_be, protocol);
    let is_it = |service: &Service| {
        let is_any = port_be == 0 && protocol == 0;
        let listens = is_any || (service.port_be == port_be && service.protocol == protocol);
        service.policy.load() != 0 && listens && same(&service.vip, destination)
    };
    let home = in_bucket(tables, position.bucket, position.tag, is_it);
    if home != FULL {
        return home;
    }
    let next = position.bucket + 1;
    let next = if next < tables.constants().directory_buckets() { next } else { 0 };
    let answer = in_bucket(tables, next, position.tag, is_it);
    if answer == FULL { 0 } else { answer }
}

/// The bucket has no end and the service is not in it: the search goes on in the next one.
const FULL: u64 = u64::MAX;

/// As [`search`], in one bucket; or [`FULL`].
#[inline(always)]
fn in_bucket<T: Tables>(tables: &T, bucket: u32, tag: u32, is_it: impl Fn(&Service) -> bool + Copy) -> u64 {
    let Some(bucket) = tables.directory(bucket) else { return 0 };
    let at = |word: &Word| {
        let word = word.load();
        let named = hash::low(word);
        if word == 0 {
            return 0;
        }
        let is_tagged = (word >> 32) as u32 == tag && named != REMOVED;
        if is_tagged && tables.service(named.wrapping_sub(1)).is_some_and(is_it) {
            named as u64
        } else {
            FULL
        }
    };
    // VERIFIER: written out, because a loop would have a variable offset, which takes CAP_PERFMON ("tried to add from different … paths").
    let [a, b, c, d, e, f, g, h] = &bucket.words;
    let mut answer = at(a);
    macro_rules! then {
        ($($word:ident)+) => {
            $(if answer == FULL {
                answer = at($word);
            })+
        };
    }
    then!(b c d e f g h);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world::{PORT, list, vip, world};

    #[test]
    fn the_salt_of_a_glance_is_that_of_the_service() {
        for (v6, port_be) in [(false, PORT.to_be()), (true, PORT.to_be()), (false, 0), (true, 0)] {
            let mut tables = world(Forward::Dsr, 6, v6, v6);
            let address = vip(v6);
            if port_be == 0 {
                tables.settings.features |= FEATURE_ANY_PORT;
                list(&mut tables, &address, 0, 6, 1);
                tables.services[1].port_be = 0;
                tables.services[1].salt = hash::salt(&tables.settings, &address, 0, 6);
            }
            let word = hash::address_word(tables.constants(), &address);
            let asked = if port_be == 0 { 4321 } else { port_be };
            let Glance::Found(found) = glance(&tables, (&address, word), asked, 6) else {
                panic!("a service is there")
            };
            assert_eq!(found.salt, found.service.salt);
        }
    }
}
