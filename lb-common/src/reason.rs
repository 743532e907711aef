//! Why a packet was dropped, answered, or passed although it concerns a service. Numbers are stable: metrics, scripts and
//! docs/reasons.md know them. Add at the end of a block, never reuse.

/// Size of a service's block in the reason counters: map index = service id × `REASON_COUNT` + reason.
pub const REASON_COUNT: u32 = 64;

/// What a reason explains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReasonKind {
    /// The packet was dropped.
    Drop,
    /// The packet was answered by us instead of being forwarded.
    Answer,
    /// The packet was left to the kernel.
    Pass,
    /// The packet went on; something rare happened to its flow.
    Note,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal, $kind:ident;)+) => {
        /// A reason; see the module.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Reason { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name used in JSON, metrics and docs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it explains.
            pub const fn kind(self) -> ReasonKind {
                match self { $(Self::$variant => ReasonKind::$kind,)+ }
            }

            /// One sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }

            /// The reason with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// A packet to a vip ends inside its headers.
    Truncated = 1, "truncated", Drop;
    /// A packet to a vip has a header that contradicts itself or the frame (lengths, header size).
    BadHeader = 2, "bad_header", Drop;
    /// A fragment of a packet to a vip; fragments carry no ports after the first.
    Fragment = 3, "fragment", Drop;
    /// An IPv6 packet to a vip whose extension headers hide the transport header.
    ExtensionHeader = 4, "extension_header", Drop;
    /// The time to live (hop limit) ran out here.
    TtlExceeded = 5, "ttl_exceeded", Drop;
    /// The service has no usable backend and is set to drop.
    NoBackend = 6, "no_backend", Drop;
    /// A slot or flow names a backend that is not there; a fault of lbd.
    BackendMissing = 7, "backend_missing", Drop;
    /// The way to the next hop is not known (no route, or its link address is not resolved yet).
    NextHopUnknown = 8, "next_hop_unknown", Drop;
    /// The outgoing interface is gone or is not one lbd may send through.
    RedirectFailed = 9, "redirect_failed", Drop;
    /// The packet is larger than the way to the backend takes, and must not be answered (IPv4 without DF).
    TooBig = 10, "too_big", Drop;
    /// nat or full-nat found no room for a new flow in the flow table.
    FlowTableFull = 11, "flow_table_full", Drop;
    /// nat: another service holds this client port to this backend.
    NatCollision = 12, "nat_collision", Drop;
    /// full-nat: every source port tried is in use towards the backend.
    SnatExhausted = 13, "snat_exhausted", Drop;
    /// full-nat or ipip has no source address of the backend's family.
    SourceMissing = 14, "source_missing", Drop;
    /// The driver left no room in front of the packet for an outer header.
    NoHeadroom = 15, "no_headroom", Drop;
    /// A packet with no flow that cannot begin one (affinity or protocol rule).
    NotAFlow = 16, "not_a_flow", Drop;
    /// A packet that would begin a flow from a source that is no host's (0.0.0.0/8, multicast, broadcast, ::, or loopback from outside).
    BadSource = 17, "bad_source", Drop;
    /// The flow's backend no longer takes it and on_loss is reset, but the packet is itself a reset, which none answers.
    FlowLost = 18, "flow_lost", Drop;
    /// A new program is in the place of one with other flow tables, and the flows are on their way: the packet's may be among them. Its sender repeats it.
    FlowsMoving = 19, "flows_moving", Drop;

    /// Too large for the way to the backend; answered with fragmentation needed or packet too big.
    TooBigAnswered = 24, "too_big_answered", Answer;
    /// The service has no usable backend; answered with a TCP reset.
    ResetAnswered = 25, "reset_answered", Answer;
    /// The service has no usable backend; answered with ICMP port unreachable (UDP).
    UnreachableAnswered = 26, "unreachable_answered", Answer;
    /// The flow's backend no longer takes it (on_loss is reset); answered with a TCP reset.
    FlowResetAnswered = 27, "flow_reset_answered", Answer;

    /// ICMP to a vip that is no error (echo and the like), left to this host.
    IcmpToVip = 40, "icmp_to_vip", Pass;
    /// An ICMP error to a vip, left to this host.
    IcmpErrorToVip = 41, "icmp_error_to_vip", Pass;
    /// A translated request whose next hop is unresolved, handed to the kernel to send (nat).
    NextHopByStack = 42, "next_hop_by_stack", Pass;
    /// A packet delivered to this host (service on lo).
    LocalDelivery = 43, "local_delivery", Pass;

    /// The flow's backend no longer takes it; another was selected.
    Reselected = 52, "reselected", Note;
    /// The new flow found no room in the flow table and goes by the Maglev table alone (dsr, ipip).
    NotStored = 53, "not_stored", Note;
}
