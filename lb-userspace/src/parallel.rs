//! The same computation for many items, on every CPU.
//!
//! In: items and a pure function. Out: its results, in the order of the items. Invariant: what comes out is what one thread would
//! have made, however many there are; nothing outlives the call.

use std::num::NonZero;
use std::thread;

/// What `compute` makes of each item; fewer items than `many` are not worth starting threads for.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], many: usize, compute: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let all = |items: &[T]| -> Vec<R> { items.iter().map(&compute).collect() };
    if items.len() < many {
        return all(items);
    }
    // Asked last: it reads several files.
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    if threads == 1 {
        return all(items);
    }
    thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(items.len().div_ceil(threads))
            .map(|items| (items, scope.spawn(|| all(items))))
            .collect();
        // A thread that could not do its part leaves it to this one.
        parts.into_iter().flat_map(|(items, thread)| thread.join().unwrap_or_else(|_| all(items))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..1000).collect();
        for len in [0, 1, 15, 16, 17, 999, 1000] {
            let doubled: Vec<u32> = items[..len].iter().map(|item| item * 2).collect();
            assert_eq!(map(&items[..len], 16, |item| item * 2), doubled);
        }
    }
}
