//! What a packet finds in the maps, step by step, over the same positions and hashes as the packet path.

use lb_common::{Address, DIRECTORY_WAYS, NextHop};
use lb_datapath::{hash, maglev};
use zerocopy::{FromBytes, IntoBytes};

use super::model::SETTINGS;
use crate::datapath::memory::MemoryStore;
use crate::desired::{ListenerKey, protocol_number};
use crate::record::{BackendRecord, ServiceRecord};
use crate::store::{Store, Table};

/// An entry of a table.
fn entry<const N: usize>(store: &MemoryStore, table: Table, index: u32) -> [u64; N] {
    let mut words = [0; N];
    store.read(table, index as usize * N, &mut words).unwrap();
    words
}

fn search(
    store: &MemoryStore,
    position: hash::DirectoryPosition,
    is_it: impl Fn(&ServiceRecord) -> bool,
) -> Option<(u16, ServiceRecord)> {
    let home = position.bucket;
    for bucket in [home, (home + 1) % SETTINGS.directory_buckets] {
        for word in entry::<DIRECTORY_WAYS>(store, Table::Directory, bucket) {
            if word == 0 {
                return None;
            }
            if word >> 32 != u64::from(position.tag) || hash::low(word) == u32::MAX {
                continue;
            }
            let id = hash::low(word) - 1;
            let service = ServiceRecord::from_words(entry(store, Table::Services, id));
            if service.policy != 0 && is_it(&service) {
                return Some((u16::try_from(id).unwrap(), service));
            }
        }
    }
    None
}

/// The service of a listener.
pub(super) fn classify(store: &MemoryStore, listener: &ListenerKey) -> Option<(u16, ServiceRecord)> {
    let vip = Address::from(listener.addr);
    let (port_be, protocol) = (listener.port.unwrap_or(0).to_be(), protocol_number(listener.protocol));
    search(store, hash::directory(&SETTINGS, &vip, port_be, protocol), |service| is_of(service, listener))
}

/// Whether it is the service of this listener.
pub(super) fn is_of(service: &ServiceRecord, listener: &ListenerKey) -> bool {
    service.vip == Address::from(listener.addr)
        && service.port_be == listener.port.unwrap_or(0).to_be()
        && service.protocol == protocol_number(listener.protocol)
}

/// The service with this id, if it is in use.
pub(super) fn service(store: &MemoryStore, id: u16) -> Option<ServiceRecord> {
    let service = ServiceRecord::from_words(entry(store, Table::Services, id.into()));
    (service.policy != 0).then_some(service)
}

/// Whether the listener's address is known to be a vip.
pub(super) fn is_vip(store: &MemoryStore, listener: &ListenerKey) -> bool {
    let vip = Address::from(listener.addr);
    search(store, hash::directory(&SETTINGS, &vip, 0, 0), |service| service.vip == vip).is_some()
}

/// The words of a service's pool: table and block of backends.
pub(super) fn pool_words(store: &MemoryStore, service: &ServiceRecord) -> [u64; 2] {
    let [table, block, ..] = entry::<4>(store, Table::Pools, service.pool().into());
    [table, block]
}

/// A backend of a service's pool, if it is in use and of this pool.
pub(super) fn resident(
    store: &MemoryStore,
    service: &ServiceRecord,
    block: u64,
    local: u16,
) -> Option<BackendRecord> {
    let (base, entries) = (hash::low(block), block >> 32);
    if local == 0 || u64::from(local) >= entries {
        return None;
    }
    let record = BackendRecord::from_words(entry(store, Table::Backends, base + u32::from(local)));
    (record.is_live() && record.pool == service.pool()).then_some(record)
}

/// Whom a table names for a client; `Some(0)`: nobody, `None`: the table is empty.
pub(super) fn pick(store: &MemoryStore, service: &ServiceRecord, table: u64, client: u32) -> Option<u16> {
    let table = maglev::TableWord::unpack(table);
    if table.slots == 0 {
        return None;
    }
    let slot = maglev::slot(hash::flow4(&SETTINGS, client.to_be(), 1000, service.salt), table.slots);
    let [word] = entry(store, Table::Maglev, table.arena_word(slot));
    Some(maglev::slot_of_word(word, slot))
}

/// A packet that has read words on its way and is not done: whatever it reads by them must stay what it was.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct UnderWay {
    pub(super) client: u32,
    pub(super) service: ServiceRecord,
    pub(super) words: [u64; 2],
    pub(super) local: u16,
    pub(super) record: BackendRecord,
    pub(super) hop: Option<NextHop>,
    pub(super) sources: Vec<std::net::IpAddr>,
}

impl UnderWay {
    /// Goes on from each of the words it has read.
    pub(super) fn go_on(&self, store: &MemoryStore) {
        let [table, block] = self.words;
        let local = pick(store, &self.service, table, self.client);
        assert_eq!(local, Some(self.local), "a region was written over while a packet read it");
        let record = resident(store, &self.service, block, self.local);
        let record = record.unwrap_or_else(|| panic!("{self:?}: the backend went too early"));
        assert_eq!(BackendRecord { state: 0, ..record }, BackendRecord { state: 0, ..self.record });
        assert_eq!(next_hop(store, &self.record), self.hop, "a next hop was written over");
        assert_eq!(sources(store, &self.record), self.sources, "a source was written over");
    }
}

/// A backend's way out.
pub(super) fn next_hop(store: &MemoryStore, record: &BackendRecord) -> Option<NextHop> {
    let index = record.next_hop();
    (index != 0)
        .then(|| NextHop::read_from_bytes(entry::<4>(store, Table::NextHops, index).as_bytes()).unwrap())
        .filter(|hop| hop.kind != 0)
}

/// A backend's source addresses.
pub(super) fn sources(store: &MemoryStore, record: &BackendRecord) -> Vec<std::net::IpAddr> {
    let indexes = u32::from(record.source)..u32::from(record.source) + u32::from(record.source_count);
    let address =
        |index| Address::read_from_bytes(entry::<2>(store, Table::Sources, index).as_bytes()).unwrap();
    indexes.map(|index| address(index).into()).collect()
}

/// Whether a reply of this endpoint would be looked up.
pub(super) fn passes_filter(store: &MemoryStore, record: &BackendRecord, listener: &ListenerKey) -> bool {
    let port_be = if record.port_be != 0 { record.port_be } else { listener.port.unwrap_or(0).to_be() };
    let position = hash::endpoint(&SETTINGS, &record.address, port_be, protocol_number(listener.protocol));
    let [word] = entry(store, Table::EndpointFilter, position.word);
    word & position.bits == position.bits
}
