//! What the program sends into a veth and nobody takes.
//!
//! In: a veth that carries the program in native mode. Out: what is lost, and a sentence. The kernel hands a frame that XDP
//! sends into a veth to the peer's NAPI, which is there only if the peer runs an XDP program in native mode or has GRO on;
//! and after XDP_TX it wakes that NAPI only for a program (drivers/net/veth.c: veth_xdp_xmit, veth_xdp_flush), so for GRO alone
//! such a frame lies there until another one comes by another way. XDP_TX is what goes back out of the interface it came in
//! by: everything where one interface is listed; where there are more, the answers of lbd itself, and what comes and goes
//! on one side.

use super::Mode;
use crate::datapath::driver;
use crate::datapath::netlink::{self, Attached, Link};

/// What of the packets that lbd sends by an interface is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Loss {
    /// Also what comes from another interface; `None`: the kernel does not say (before 6.3).
    redirected: Option<bool>,
    /// The peer's name, if it is known.
    peer: Option<String>,
}

/// What is lost; `None`: nothing, as far as the kernel tells.
pub(super) fn loss(name: &str, index: u32, mode: Mode) -> Option<Loss> {
    if mode != Mode::Native || driver::name(name)? != "veth" {
        return None;
    }
    let takes_redirected =
        netlink::xdp_features(index).map(|features| features & netlink::FEATURE_REDIRECT_TARGET != 0);
    let peer = netlink::link(index).ok().and_then(|link| netlink::peer(&link));
    judge(takes_redirected, peer)
}

/// `peer` `None`: it cannot be asked; then only what the kernel says of this end counts.
fn judge(takes_redirected: Option<bool>, peer: Option<Link>) -> Option<Loss> {
    let redirected = takes_redirected.map(|takes| !takes);
    match peer {
        Some(Link { attached: Attached::None | Attached::Generic, name, .. }) => {
            Some(Loss { redirected, peer: Some(name) })
        }
        Some(_) => None,
        None => (redirected == Some(true)).then_some(Loss { redirected, peer: None }),
    }
}

impl Loss {
    /// Whether packets are lost: `is_alone`: it is the only interface; `transmits`: packets have gone back out of it of late.
    pub(super) const fn is_felt(&self, is_alone: bool, transmits: bool) -> bool {
        matches!(self.redirected, Some(true)) || is_alone || transmits
    }

    /// What is lost, why, and what to do about it.
    pub(super) fn sentence(&self, name: &str, is_alone: bool, transmits: bool) -> String {
        let peer = self.peer.as_deref().map(|peer| format!(" {peer}")).unwrap_or_default();
        let delays = if transmits { "delays or loses" } else { "would delay or lose" };
        let why = match (self.redirected, is_alone) {
            (Some(true), true) => format!(
                "{name} loses all that lbd sends: what goes back out of a veth needs an XDP program on its peer{peer}"
            ),
            (Some(true), false) => format!(
                "{name} loses all that lbd sends by it: its peer{peer} has neither an XDP program nor GRO"
            ),
            (_, true) => format!(
                "{name} delays or loses all that lbd sends: its peer{peer} has no XDP program, and for GRO alone it is not \
                 woken by what goes back out of a veth"
            ),
            (Some(false), false) => format!(
                "{name} {delays} what goes back out of it (lbd's own answers, clients and backends on one side): its \
                 peer{peer} has no XDP program, and for GRO alone it is woken only by what comes from another interface"
            ),
            (None, false) => format!(
                "{name} {delays} what goes back out of it (lbd's own answers, clients and backends on one side): its \
                 peer{peer} has no XDP program; whether it has GRO this kernel does not tell (before 6.3; `ethtool -k` does): \
                 without it all that lbd sends by {name} is lost"
            ),
        };
        format!(
            "{why}; where the peer is, run `lbd decap --interface {} --from ADDRESS-OF-THIS-HOST` (any XDP program in native \
             mode will do), or set datapath.mode = \"generic\"",
            self.peer.as_deref().unwrap_or("PEER"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_on_the_peer_takes_all_and_gro_only_what_is_redirected() {
        let peer = |attached| {
            let mut link = netlink::link(netlink::index("lo").unwrap()).unwrap();
            link.attached = attached;
            Some(link)
        };
        assert_eq!(judge(Some(true), peer(Attached::Native)), None);
        assert_eq!(judge(None, peer(Attached::Native)), None);
        let gro = judge(Some(true), peer(Attached::None)).unwrap();
        assert!(!gro.is_felt(false, false) && gro.is_felt(true, false) && gro.is_felt(false, true));
        // A program in generic mode comes after the veth.
        assert_eq!(judge(Some(true), peer(Attached::Generic)), Some(gro));
        assert!(judge(Some(false), peer(Attached::None)).unwrap().is_felt(false, false));
        // A kernel that does not tell of GRO.
        assert!(!judge(None, peer(Attached::None)).unwrap().is_felt(false, false));
        // A peer that may not be looked at: nothing is said without the kernel's word.
        assert_eq!(judge(Some(true), None), None);
        assert!(judge(Some(false), None).unwrap().is_felt(false, false));
    }

    #[test]
    fn the_sentence_says_what_is_lost_and_names_the_peer_and_the_remedy() {
        let loss = Loss { redirected: Some(false), peer: Some("eth7".into()) };
        for (is_alone, transmits, what) in [
            (true, false, "delays or loses all"),
            (false, true, "delays or loses what goes back"),
            (false, false, "would delay or lose what"),
        ] {
            let text = loss.sentence("front", is_alone, transmits);
            assert!(text.starts_with(&format!("front {what}")), "{text}");
            assert!(text.contains("lbd decap --interface eth7"), "{text}");
        }
        let text = Loss { redirected: Some(true), peer: None }.sentence("front", false, false);
        assert!(text.contains("neither") && text.contains("--interface PEER"), "{text}");
    }

    #[test]
    fn where_the_kernel_does_not_tell_of_gro_neither_is_claimed() {
        let loss = Loss { redirected: None, peer: Some("eth7".into()) };
        let text = loss.sentence("front", false, false);
        assert!(
            text.contains("does not tell") && text.contains("all that lbd sends by front is lost"),
            "{text}"
        );
        assert!(!text.contains("GRO alone"), "{text}");
        // Where all goes back out of it, GRO makes no difference.
        assert!(loss.is_felt(true, false));
        assert!(!loss.sentence("front", true, false).contains("does not tell"));
    }
}
