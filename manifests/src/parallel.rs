//! Work on all cores.

/// Gives each of `items` to `work` on some thread; results come in the items' order. Items are begun
/// in that order, too.
pub fn map<I: Sync, T: Send, E: Send>(
    threads: usize,
    items: &[I],
    work: impl Fn(usize, &I) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::new());
    on_threads(threads, || {
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(item) = items.get(index) else { return Ok(()) };
            // The others need not begin what would be thrown away.
            let result =
                work(index, item).inspect_err(|_| next.store(items.len(), std::sync::atomic::Ordering::Relaxed))?;
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
        }
    })?;
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// The same, and what takes longest by `work_of` is begun first, so that no thread waits long at the end.
pub fn map_longest_first<I: Sync, T: Send, E: Send>(
    threads: usize,
    items: &[I],
    work_of: impl Fn(&I) -> u64,
    work: impl Fn(usize, &I) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let mut order: Vec<(usize, &I)> = items.iter().enumerate().collect();
    order.sort_by_key(|(_, item)| std::cmp::Reverse(work_of(item)));
    let mut done = map(threads, &order, |_, (index, item)| work(*index, item).map(|result| (*index, result)))?;
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// The cores there are, at most eight.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8)
}

/// Runs `work` once on each core, at most eight; the first error is the result. The workers share
/// what there is to do by a counter or a queue of their own.
pub fn on_all_cores<E: Send>(work: impl Fn() -> Result<(), E> + Sync) -> Result<(), E> {
    on_threads(cores(), work)
}

/// Runs `work` once on each of `threads` threads; the first error is the result.
pub fn on_threads<E: Send>(threads: usize, work: impl Fn() -> Result<(), E> + Sync) -> Result<(), E> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let mut result = work();
        for other in others {
            let joined = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(joined);
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn all_work_is_done_once_and_an_error_comes_out() {
        let (next, done) = (AtomicU32::new(0), AtomicU32::new(0));
        let result: Result<(), u32> = on_all_cores(|| {
            while next.fetch_add(1, Ordering::Relaxed) < 100 {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        assert_eq!((result, done.into_inner()), (Ok(()), 100));
        let once = AtomicU32::new(0);
        let failed = on_all_cores(|| if once.fetch_add(1, Ordering::Relaxed) == 0 { Err("first") } else { Ok(()) });
        assert_eq!(failed, Err("first"));
        for threads in [0, 1, 3, 9] {
            let squares = map(threads, &[1, 2, 3, 4, 5], |index, n| Ok::<_, u32>((index, n * n)));
            assert_eq!(squares.unwrap(), [(0, 1), (1, 4), (2, 9), (3, 16), (4, 25)]);
            assert_eq!(map(threads, &[1, 2, 3], |_, n| if *n == 2 { Err(*n) } else { Ok(()) }), Err(2));
            let begun = std::sync::Mutex::new(Vec::new());
            let longest_first = map_longest_first(
                threads,
                &[3, 1, 4, 1, 5],
                |n| *n,
                |index, n| {
                    begun.lock().unwrap().push(*n);
                    Ok::<_, u32>((index, *n))
                },
            );
            assert_eq!(longest_first.unwrap(), [(0, 3), (1, 1), (2, 4), (3, 1), (4, 5)]);
            assert!(threads > 1 || begun.into_inner().unwrap() == [5, 4, 3, 1, 1]);
        }
    }
}
