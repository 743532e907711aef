//! The neighbours behind the wanted ways: asked for, kept resolved where the kernel can, and let go.

use tokio::time::Instant;

use super::{RETRY, Work};
use crate::netlink::next_hops::Action;
use crate::netlink::{NetlinkError, neighbour};

/// Neighbours that the kernel does not keep resolved by itself are used every so many retries.
const POKE_EVERY: u32 = 5;

impl Work {
    /// Does what the table asks for.
    pub(super) async fn act(&mut self) {
        for action in self.table.take_actions() {
            let done = match action {
                Action::Ensure(key) if !self.table.tracks(key) => Ok(()),
                Action::Ensure(key) => self.ensure(key).await,
                Action::Release(key) => self.release(key).await,
            };
            if let Err(error) = done {
                self.refused(&error);
            }
        }
    }

    async fn ensure(&mut self, key: neighbour::NeighbourKey) -> Result<(), NetlinkError> {
        let seen = neighbour::get(&self.kernel.handle, key).await?;
        if let Some(seen) = seen {
            self.table.neighbour(key, Some(seen));
        }
        match seen.is_some_and(|seen| seen.fixed) {
            true => Ok(()),
            false => neighbour::ensure(&self.kernel.handle, key).await,
        }
    }

    /// Lets go of what an lbd asked for; what others made is not touched.
    async fn release(&mut self, key: neighbour::NeighbourKey) -> Result<(), NetlinkError> {
        match neighbour::get(&self.kernel.handle, key).await? {
            Some(seen) if seen.is_kept_by_lbd() && !self.table.tracks(key) && !self.ways_back.keeps(key) => {
                neighbour::release(&self.kernel.handle, key).await
            }
            _ => Ok(()),
        }
    }

    /// Lets go of the neighbours that an lbd before this one wanted and this one does not. Runs once, after the first
    /// wanted addresses have their ways.
    pub(super) async fn sweep_leftovers(&mut self) {
        self.leftovers_swept = true;
        let entries = match neighbour::all(&self.kernel.handle).await {
            Ok(entries) => entries,
            Err(error) => return self.refused(&error),
        };
        for (key, seen) in entries {
            if seen.ours
                && seen.managed
                && let Err(error) = self.release(key).await
            {
                self.refused(&error);
            }
        }
    }

    /// Without the right to ask for neighbours they are followed as the host's own traffic (the health checks) keeps them.
    fn refused(&mut self, error: &NetlinkError) {
        if error.errno() != Some(libc::EPERM) {
            tracing::debug!("{error}");
        } else if !self.refusal_said {
            self.refusal_said = true;
            tracing::warn!("{error}; without CAP_NET_ADMIN backends' neighbours are not kept resolved");
        }
    }

    pub(super) async fn retry(&mut self) {
        self.retry_at = None;
        self.retries = self.retries.wrapping_add(1);
        let mut keys = self.table.unanswered();
        if self.retries.is_multiple_of(POKE_EVERY) {
            keys.extend(self.table.unmanaged());
        }
        for key in keys {
            if let Err(error) = self.ensure(key).await {
                self.refused(&error);
            }
        }
    }

    pub(super) fn plan_retry(&mut self) {
        if self.retry_at.is_none()
            && (!self.table.unanswered().is_empty() || !self.table.unmanaged().is_empty())
        {
            self.retry_at = Some(Instant::now() + RETRY);
        }
    }
}
