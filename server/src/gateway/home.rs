//! The home's side: sessions whose clients are connected to other nodes, and what these nodes ask.

use std::sync::Arc;

use bytes::Bytes;
use sql::engine::Led;
use sql::session::Login;
use storage::GroupId;
use tokio::time::Instant;
use wire::{Connection, ErrorFields, Link, Private, Severity};

use super::opening::{Request, Resume, login};
use super::travel::status_of;
use crate::connection::{Client, Ran};
use crate::report;
use crate::serve::Sessions;

/// Serves a session that another node of the cluster has opened a stream for. Who logs in was
/// authenticated there.
pub async fn serve_stream(sessions: Arc<Sessions>, opening: Bytes, stream: impl Link) {
    let Some((who, spent)) = login(opening) else {
        tracing::warn!("a stream of an unknown kind");
        return;
    };
    let since = Instant::now().checked_sub(spent);
    let mut connection = Connection::over(Box::new(stream), &wire::Config::default());
    let first = match connection.resume().await {
        Ok(Some(first)) => first,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "a session of another node can't be understood");
            return;
        }
    };
    if let Err(error) = serve(sessions, &who, connection, first, since).await {
        tracing::debug!(pid = who.process, %error, "the gateway was lost");
    }
}

async fn serve(
    sessions: Arc<Sessions>,
    who: &Login,
    mut connection: Connection,
    first: Bytes,
    since: Option<Instant>,
) -> Result<(), wire::Error> {
    let resumed = Resume::decode(first)
        .ok_or_else(|| sql::Error::new(sql::state::DATA_CORRUPTED, "a session that can't be read"))
        .and_then(|resume| {
            let session = sessions.engine().resume(who, &resume.state)?;
            Ok((session, resume))
        });
    let (mut session, resume) = match resumed {
        Ok(resumed) => resumed,
        Err(error) => {
            connection.error(&report::fields(Severity::Fatal, &error));
            connection.tell(&Private::Bye);
            return connection.close().await;
        }
    };
    session.follow();
    if let Some(status) = resume.fallen {
        session.fallen(status_of(status));
    }
    if sessions.engine().led(GroupId(resume.group)) != Led::Here {
        // The gateway knew no better.
        connection.tell(&Private::Elsewhere {
            group: Some(resume.group),
            answered: resume.answered,
        });
        return connection.close().await;
    }
    match Client::new(sessions, connection, session)
        .repeating(resume.answered, None, since)
        .run()
        .await
    {
        Ran::Ended => Ok(()),
        Ran::Elsewhere(moving) => {
            // A session over a link says where it goes by a frame.
            let fields = ErrorFields::fatal("XX000", "a session has left its gateway");
            moving.connection.end(&fields).await
        }
    }
}

/// What a gateway asks; None: nothing that is known here.
pub fn serve_request(sessions: &Arc<Sessions>, request: Bytes) -> Option<Bytes> {
    match Request::decode(request)? {
        Request::Cancel { process } => sessions.cancel_here(process),
        Request::CancelByKey { process, secret } => sessions.cancel_by(process, secret),
    }
    Some(Bytes::new())
}
