//! Questions to name servers, asked again for ever: by the time to live of what was answered,
//! sooner after a failure or in doubt.
//!
//! Knows no kind of record. Invariants: no TTL makes it ask more often than once in [`TTL_MIN`] or
//! less often than once in [`TTL_MAX`]; trouble is said once until there is an answer.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use crate::source::{News, Source, SourceError, Told};

/// The shortest time between two look-ups that nobody asked for: a TTL of zero is no invitation.
pub const TTL_MIN: Duration = Duration::from_secs(1);

/// The longest: names of this host have a day, and their file may change.
pub const TTL_MAX: Duration = Duration::from_secs(60);

/// After a look-up that failed; doubles up to the other.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(8);

/// Between look-ups because of doubts, which come in storms.
const DOUBTS_GAP: Duration = Duration::from_millis(100);

/// What is asked, and what is known of it.
pub trait Question: Send {
    /// Asks once. An error leaves what was found before standing.
    fn ask(&mut self) -> impl Future<Output = Result<Found, SourceError>> + Send;
}

/// What a look-up has brought.
#[derive(Debug)]
pub struct Found {
    /// How long it is good for, by the records.
    pub ttl: Duration,
    /// What has not been said before.
    pub news: Vec<News>,
}

/// A question that is asked for ever.
#[derive(Debug)]
pub struct Repeated<Q>(pub Q);

impl<Q: Question> Source for Repeated<Q> {
    async fn follow(mut self, told: Told) {
        let mut retry = RETRY_MIN;
        let mut is_troubled = false;
        loop {
            let found = self.0.ask().await;
            let began = Instant::now();
            let mut pause = retry;
            let news = match found {
                Ok(Found { ttl, news }) => {
                    retry = RETRY_MIN;
                    is_troubled = false;
                    pause = ttl.clamp(TTL_MIN, TTL_MAX);
                    news
                }
                Err(error) => {
                    retry = (retry * 2).min(RETRY_MAX);
                    let is_first = !std::mem::replace(&mut is_troubled, true);
                    let news = is_first.then_some(News::Trouble(error));
                    news.into_iter().collect()
                }
            };
            for news in news {
                if !told.say(news).await {
                    return;
                }
            }
            tokio::select! {
                () = sleep_until((began + pause).into()) => {}
                () = told.doubted() => sleep(DOUBTS_GAP).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::source::channel;

    /// Answers with a TTL of zero, but not the second and the third time.
    struct Counted(Arc<AtomicU32>);

    impl Question for Counted {
        async fn ask(&mut self) -> Result<Found, SourceError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                1 | 2 => Err(SourceError::NoAddress {
                    host: "test".into(),
                }),
                _ => Ok(Found {
                    ttl: Duration::ZERO,
                    news: Vec::new(),
                }),
            }
        }
    }

    #[test]
    fn asks_no_more_often_than_it_may_and_says_trouble_once() {
        let count = Arc::new(AtomicU32::new(0));
        let asked = || count.load(Ordering::Relaxed);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let (told, mut follower) = channel();
            tokio::spawn(Repeated(Counted(count.clone())).follow(told));
            sleep(TTL_MIN / 2).await;
            assert_eq!(asked(), 1, "a TTL of zero is no invitation");
            for times in 2..=4 {
                follower.doubts().notify_one();
                while asked() < times {
                    sleep(DOUBTS_GAP / 10).await;
                }
            }
            assert!(matches!(follower.next().await, Some(News::Trouble(_))));
            let more = tokio::time::timeout(DOUBTS_GAP, follower.next()).await;
            assert!(more.is_err(), "{more:?}");
        });
    }
}
