//! The other end of a reader: evaluates a view of a group that is held here by Raft, as of the
//! reader's position, and gives its rows.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sql::engine::Engine;
use sql::remote::{Refused, Request};
use sql::session::{Piece, Source, Waiting};
use sql::{Error, state};
use storage::{Clock as _, Pin};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout};

use super::words::{Word, request};
use super::{BEHIND_AFTER, LOOK_EVERY, ROWS_BYTES, SIGN_EVERY, SOURCES_MAX};
use crate::cluster::Cluster;
use crate::peer::PeerStream;
use crate::peer::word::WORD_BYTES_MAX;
use crate::system::SystemClock;

/// What this node gives of views to readers elsewhere.
pub struct Sources(Arc<Semaphore>);

impl Default for Sources {
    fn default() -> Sources {
        Sources(Arc::new(Semaphore::new(SOURCES_MAX)))
    }
}

/// Serves a stream that another node of the cluster has opened.
pub async fn serve(cluster: Arc<Cluster>, peer: u32, opening: Bytes, stream: PeerStream) {
    let Some(request) = request(&opening) else {
        return stream.reset("no reader of a view begins like this");
    };
    let Ok(_place) = cluster.view_sources().0.clone().try_acquire_owned() else {
        return stream.reset("too many readers of views");
    };
    let Some(engine) = cluster.engine() else {
        return stream.reset("the node is starting");
    };
    if let Err(error) = give(engine, request, stream).await {
        tracing::debug!(peer, %error, "a reader of a view gets no more");
    }
}

/// Gives it all, then holds the position as long as the reader wants.
async fn give(
    engine: &Arc<Engine>,
    request: Request,
    mut stream: PeerStream,
) -> std::io::Result<()> {
    let (source, _pin) = match begin(engine, &request).await {
        Ok(begun) => begun,
        Err(word) => {
            say(&word, &mut stream).await?;
            return stream.shutdown().await;
        }
    };
    let activity = source.activity().clone();
    let watched = stream.watched();
    let (to, mut from) = mpsc::channel(1);
    let making = tokio::spawn(make(source, to));
    let given = async {
        loop {
            let word = match timeout(SIGN_EVERY, from.recv()).await {
                Ok(Some(word)) => word,
                // It panicked, which was logged.
                Ok(None) => return Ok(false),
                Err(_) => Word::Sign,
            };
            say(&word, &mut stream).await?;
            if !matches!(word, Word::Rows(_) | Word::Sign) {
                return Ok(matches!(word, Word::End));
            }
        }
    };
    let given: std::io::Result<bool> = tokio::select! {
        given = given => given,
        () = watched.gone() => Ok(false),
    };
    // Whatever it computes, nobody wants it.
    activity.terminate();
    drop(from);
    let _ = making.await;
    if given? && request.holds {
        watched.gone().await;
    }
    stream.shutdown().await
}

/// Begins as soon as this node has what the reader has. `Err`: what is said instead.
async fn begin(engine: &Arc<Engine>, request: &Request) -> Result<(Source, Pin), Word> {
    let asked = Instant::now();
    loop {
        match block_in_place(|| engine.give_view(request)) {
            Ok(begun) => return Ok(begun),
            Err(Refused::Behind) if asked.elapsed() < BEHIND_AFTER => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(refused) => return Err(word_of(refused)),
        }
    }
}

fn word_of(refused: Refused) -> Word {
    match refused {
        Refused::Behind => Word::Lacks("it has less than its reader".into()),
        Refused::NotHere => Word::Lacks("it has no replica of the group".into()),
        Refused::Ahead(group, at) => Word::Ahead(group, at),
        Refused::Old(at) => Word::Old(at),
        Refused::Error(error) => Word::Failed(error),
    }
}

/// Makes the rows, as fast as they are taken.
async fn make(mut source: Source, to: mpsc::Sender<Word>) {
    loop {
        let word = match block_in_place(|| source.next(ROWS_BYTES)) {
            Ok(Piece::Rows(rows)) => rows_word(rows),
            Ok(Piece::End) => Word::End,
            Ok(Piece::Wait(waiting)) => {
                await_it(&waiting, &to).await;
                continue;
            }
            Err(refused) => word_of(refused),
        };
        let more = matches!(word, Word::Rows(_));
        if to.send(word).await.is_err() || !more {
            return;
        }
    }
}

/// What is said of rows. One row alone may be more than can be said at once.
fn rows_word(rows: Bytes) -> Word {
    match rows.len() < WORD_BYTES_MAX {
        true => Word::Rows(rows),
        false => {
            let message = "a row of a view of another owner is too large to be read at this node";
            Word::Failed(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message))
        }
    }
}

/// Until it is over, its time has come or the reader has gone, whom the source notices then.
async fn await_it(waiting: &Waiting, to: &mpsc::Sender<Word>) {
    if waiting.rechecks() {
        // What it waits for may have come before a waker is in place: it looks again.
        return tokio::time::sleep(LOOK_EVERY).await;
    }
    let (over, woken) = oneshot::channel();
    let tell = move || {
        // Nobody may wait any more.
        let _ = over.send(());
    };
    waiting.on_ready(Box::new(tell));
    let time = async {
        match waiting.until() {
            Some(micros) => {
                let now = SystemClock.unix_micros();
                tokio::time::sleep(Duration::from_micros(micros.saturating_sub(now))).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = woken => {}
        () = time => {}
        () = to.closed() => {}
    }
}

async fn say(word: &Word, stream: &mut PeerStream) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    word.encode(&mut bytes).map_err(std::io::Error::other)?;
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_can_not_be_said_fails_the_statement_and_no_source() {
        let rows = |bytes| rows_word(Bytes::from(vec![0; bytes]));
        assert!(matches!(rows(WORD_BYTES_MAX - 1), Word::Rows(_)));
        let Word::Failed(error) = rows(WORD_BYTES_MAX) else {
            panic!("it is said");
        };
        assert_eq!(error.state(), state::PROGRAM_LIMIT_EXCEEDED);
    }
}
