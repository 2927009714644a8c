//! What owners do for each other without a client: for each pair of groups of which one is led here a
//! task takes what the other has sent, and removes what the other has taken (`sql::outbox`); another one
//! runs the triggers that its owner has on tables of the other (`sql::fired`), a third one sees to
//! foreign keys between the two (`sql::integrity`), a fourth one to tables that move from one to the other
//! (`sql::moving`). They are woken by entries, and look by themselves now and then. One more for each group
//! erases what it has set aside of others' rows that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sql::changes::Log;
use sql::engine::Engine;
use sql::fired::{Batch, Entries};
use sql::session::{Courier, Taking, Waiting};
use storage::{GroupId, Position};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Between two looks at all pairs: what a start or a new copy has brought rings no bell.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What was taken is removed so often, many at once.
const CLEAR_EVERY: Duration = Duration::from_millis(100);
/// Where triggers have nothing to run on, it is written so often how far the feed was read.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// What is set aside of rows that are gone is looked for so often.
const ERASE_EVERY: Duration = Duration::from_secs(1);
/// After an error.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// What foreign keys wait for is looked at no more often.
const REFER_EVERY: Duration = Duration::from_millis(5);
/// What is placed for foreign keys and refused is tried again so often at once.
const AGAIN_MAX: u32 = 16;
/// Entries of a pair that are not known to be there for good.
const PLACED_MAX: usize = 64;

/// The two groups: that which is led here, and the other.
type Pair = (GroupId, GroupId);

struct Task {
    woken: Arc<Notify>,
    running: JoinHandle<()>,
}

/// What was said of a pair that stands still: the same is said once.
#[derive(Default)]
struct Said(String);

impl Said {
    fn say(&mut self, (home, other): Pair, what: &str, error: &sql::Error) {
        let text = error.to_string();
        // A node that ends ends its own sessions, too.
        let ends = error.state() == sql::state::ADMIN_SHUTDOWN;
        match ends || text == self.0 {
            true => tracing::debug!(%home, %other, %error, "{what}"),
            false => tracing::warn!(%home, %other, %error, "{what}"),
        }
        self.0 = text;
    }
}

/// Looks after all pairs, for ever. What others have deleted is erased of what is set aside once half of
/// `erase_after` is over.
pub async fn keep(engine: Arc<Engine>, log: Arc<dyn Log>, erase_after: Duration) {
    let mut tasks: BTreeMap<Pair, Task> = BTreeMap::new();
    let mut referring: BTreeMap<Pair, Task> = BTreeMap::new();
    let mut firing: BTreeMap<Pair, JoinHandle<()>> = BTreeMap::new();
    let mut moving: BTreeMap<Pair, JoinHandle<()>> = BTreeMap::new();
    let mut erasing: BTreeMap<GroupId, JoinHandle<()>> = BTreeMap::new();
    let mut looked: Option<Instant> = None;
    loop {
        let (rings, rung) = oneshot::channel();
        let signal = sql::transaction::Signal::default();
        // Nobody hears it if the time is over.
        signal.on_set(Box::new(move || rings.send(()).unwrap_or_default()));
        // From here on nothing is missed.
        engine.on_sent(&signal);
        let (mut pairs, mut refer) = engine.take_moved();
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            tasks.retain(|_, task| !task.running.is_finished());
            referring.retain(|_, task| !task.running.is_finished());
            pairs.extend(engine.sending());
            match engine.referring() {
                Ok(pairs) => refer.extend(pairs),
                Err(error) => tracing::warn!(%error, "foreign keys to be seen to can't be read"),
            }
            firing.retain(|_, running| !running.is_finished());
            for pair in engine.firing() {
                let begin = || tokio::spawn(fire(engine.clone(), log.clone(), pair));
                firing.entry(pair).or_insert_with(begin);
            }
            moving.retain(|_, running| !running.is_finished());
            for pair in engine.moving() {
                let begin = || tokio::spawn(move_between(engine.clone(), pair));
                moving.entry(pair).or_insert_with(begin);
            }
            erasing.retain(|_, running| !running.is_finished());
            for home in parking(&engine) {
                let begin = || tokio::spawn(erase_gone(engine.clone(), home, erase_after / 2));
                erasing.entry(home).or_insert_with(begin);
            }
        }
        wake(&engine, &mut tasks, pairs, |engine, pair, woken| {
            tokio::spawn(run(engine, pair, woken))
        });
        wake(&engine, &mut referring, refer, |engine, pair, woken| {
            tokio::spawn(refer_to(engine, pair, woken))
        });
        // An error is a time that is over.
        let _ = timeout(LOOK_EVERY, rung).await;
    }
}

/// Wakes the tasks of pairs whose group is led here; they are begun if need be.
fn wake(
    engine: &Arc<Engine>,
    tasks: &mut BTreeMap<Pair, Task>,
    pairs: BTreeSet<Pair>,
    begin: impl Fn(Arc<Engine>, Pair, Arc<Notify>) -> JoinHandle<()>,
) {
    let begin = |pair| {
        let woken = Arc::new(Notify::new());
        let running = begin(engine.clone(), pair, woken.clone());
        Task { woken, running }
    };
    for pair in pairs {
        if !engine.leads(pair.0) {
            continue;
        }
        let task = tasks.entry(pair).or_insert_with(|| begin(pair));
        if task.running.is_finished() {
            *task = begin(pair);
        }
        task.woken.notify_one();
    }
}

/// Sees to foreign keys between the two until the group is led here no more. Noting them has a courier of its
/// own, which waits for transactions that wait for the other ones, and keeps its place in a table's queue.
async fn refer_to(engine: Arc<Engine>, pair: Pair, woken: Arc<Notify>) {
    let (mut answers, mut settles): (Option<Courier>, Option<Courier>) = (None, None);
    let mut registers: Option<Courier> = None;
    let mut registering: Option<Waiting> = None;
    let mut said = Said::default();
    while engine.leads(pair.0) {
        let mut again = LOOK_EVERY;
        let mut results = vec![
            tend(&engine, pair, &mut answers, PLACED_MAX, Courier::answer).await,
            tend(
                &engine,
                pair,
                &mut settles,
                PLACED_MAX,
                Courier::settle_references,
            )
            .await,
        ];
        let due = |waiting: &Waiting| waiting.ready() || is_due(&engine, waiting);
        if registering.as_ref().is_none_or(due) {
            match tend(&engine, pair, &mut registers, PLACED_MAX, Courier::register).await {
                Ok(waiting) => registering = waiting,
                Err(error) => results.push(Err(error)),
            }
        }
        // Who drops it leaves a lock's queue.
        let mut waits = Vec::new();
        for result in results {
            match result {
                Ok(None) => {}
                Ok(Some(waiting)) => {
                    again = again.min(until(&engine, &waiting));
                    waits.push(waiting);
                }
                Err(error) => {
                    said.say(pair, "foreign keys are not seen to now", &error);
                    again = again.min(AGAIN_AFTER);
                }
            }
        }
        for waiting in waits.iter().chain(&registering) {
            let woken = Arc::clone(&woken);
            waiting.on_ready(Box::new(move || woken.notify_one()));
        }
        if let Some(waiting) = &registering {
            again = again.min(until(&engine, waiting));
        }
        tokio::select! {
            () = woken.notified() => {}
            () = sleep(again) => {}
        }
    }
}

/// Is its time over?
fn is_due(engine: &Engine, waiting: &Waiting) -> bool {
    let now = engine.clock().unix_micros();
    waiting.until().is_some_and(|until| until <= now)
}

/// How long it waits at most.
fn until(engine: &Engine, waiting: &Waiting) -> Duration {
    let now = engine.clock().unix_micros();
    waiting.until().map_or(LOOK_EVERY, |until| {
        Duration::from_micros(until.saturating_sub(now)).max(REFER_EVERY)
    })
}

/// Sees to tables that move between the two until there are none, or the group is led here no more.
async fn move_between(engine: Arc<Engine>, pair: Pair) {
    let (mut leaves, mut arrives): (Option<Courier>, Option<Courier>) = (None, None);
    let mut leaving: Option<Waiting> = None;
    let mut said = [Said::default(), Said::default()];
    while engine.moving().contains(&pair) {
        let (rings, rung) = oneshot::channel();
        let signal = sql::transaction::Signal::default();
        // Nobody hears it if the time is over.
        signal.on_set(Box::new(move || rings.send(()).unwrap_or_default()));
        // From here on nothing is missed.
        engine.on_entry(&signal);
        let mut again = LOOK_EVERY;
        let mut results = vec![tend(&engine, pair, &mut arrives, 0, Courier::arrive).await];
        // It keeps its place in the queue of a table's lock.
        let due = |waiting: &Waiting| waiting.ready() || is_due(&engine, waiting);
        if leaving.as_ref().is_none_or(due) {
            leaving = None;
            results.push(tend(&engine, pair, &mut leaves, PLACED_MAX, Courier::leave).await);
        }
        for (at, result) in results.into_iter().enumerate() {
            match result {
                Ok(waiting) => {
                    let after = waiting.as_ref().map_or(LOOK_EVERY, |w| until(&engine, w));
                    let ready = waiting.as_ref().is_some_and(Waiting::ready);
                    again = again.min(if ready { REFER_EVERY } else { after });
                    if at == 1 {
                        leaving = waiting;
                    }
                }
                Err(error) => {
                    said[at].say(pair, "tables are not moved now", &error);
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
        // An error is a time that is over.
        let _ = timeout(again, rung).await;
    }
}

/// The groups that have set something aside.
fn parking(engine: &Engine) -> BTreeSet<GroupId> {
    engine.parking().unwrap_or_else(|error| {
        tracing::warn!(%error, "what is set aside can't be read");
        BTreeSet::new()
    })
}

/// Erases what a group has set aside of rows that are gone, until there is nothing set aside or the group
/// is led here no more. What was deleted goes after this time.
async fn erase_gone(engine: Arc<Engine>, home: GroupId, after: Duration) {
    let mut courier: Option<Courier> = None;
    let mut said = Said::default();
    while parking(&engine).contains(&home) {
        let now = engine.clock().unix_micros();
        let upto = Position::from_unix_micros(now.saturating_sub(after.as_micros() as u64));
        let erase = |courier: &mut Courier| courier.erase_gone(upto);
        match tend(&engine, (home, home), &mut courier, PLACED_MAX, erase).await {
            Ok(None) => {}
            Ok(Some(waiting)) => wait(&waiting).await,
            Err(error) => said.say((home, home), "what is set aside is not erased now", &error),
        }
        sleep(ERASE_EVERY).await;
    }
}

/// Does all that there is to do, until something must be waited for; never with more than `most` entries
/// that are not known to be there for good.
async fn tend(
    engine: &Arc<Engine>,
    (home, other): Pair,
    courier: &mut Option<Courier>,
    most: usize,
    what: impl Fn(&mut Courier) -> sql::Result<Taking>,
) -> sql::Result<Option<Waiting>> {
    let mut made = match courier.take() {
        Some(made) => made,
        None => engine.courier(home, other)?,
    };
    let mut again = 0;
    let done = loop {
        match block_in_place(|| what(&mut made)) {
            Ok(Taking::Nothing) => break settle(&mut made, 0).await.map(|()| None),
            Ok(Taking::Placed) => match settle(&mut made, most).await {
                Ok(()) => {}
                Err(error) => break Err(error),
            },
            Ok(Taking::Wait(waiting)) => break Ok(Some(waiting)),
            // What it has looked at has changed meanwhile.
            Err(error)
                if error.state() == sql::state::SERIALIZATION_FAILURE && again < AGAIN_MAX =>
            {
                again += 1;
            }
            Err(error) => break Err(error),
        }
    };
    let goes_on = done.is_ok() || (made.placed() == 0 && made.interrupt()().is_ok());
    *courier = Some(made).filter(|_| goes_on);
    done
}

/// Until the group is led here no more.
async fn run(engine: Arc<Engine>, (home, other): Pair, woken: Arc<Notify>) {
    let mut courier: Option<Courier> = None;
    let mut cleared = Instant::now();
    let mut said = Said::default();
    while engine.leads(home) {
        let result = match courier.take() {
            Some(courier) => Ok(courier),
            None => engine.courier(home, other),
        };
        let result = match result {
            Ok(mut made) => {
                let due = round(&mut made, &mut cleared).await;
                // It counts its failures, unless what it has placed is lost.
                let goes_on = |made: &Courier| made.placed() == 0 && made.interrupt()().is_ok();
                courier = Some(made).filter(|made| due.is_ok() || goes_on(made));
                due
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(due) => {
                tokio::select! {
                    () = woken.notified() => {}
                    () = sleep_until(cleared + CLEAR_EVERY), if due => {}
                    () = sleep(LOOK_EVERY) => {}
                }
            }
            Err(error) => {
                // What it has placed is in the log or not: the cursor says so.
                said.say((home, other), "what was sent is not taken now", &error);
                sleep(AGAIN_AFTER).await;
            }
        }
    }
}

/// Runs triggers until the group is led here no more, or there are none.
async fn fire(engine: Arc<Engine>, log: Arc<dyn Log>, pair: Pair) {
    let (home, source) = pair;
    let mut courier: Option<Courier> = None;
    let mut said = Said::default();
    let (mut behind, mut lost) = (false, false);
    while engine.firing().contains(&pair) {
        let result = match courier.take() {
            Some(courier) => Ok(courier),
            None => engine.courier(home, source),
        };
        let result = match result {
            Ok(mut made) => {
                let result = fire_on(&engine, &log, pair, &mut made, &mut behind).await;
                // It counts its failures, unless what it has placed is lost or it was cancelled.
                let goes_on = made.placed() == 0 && made.interrupt()().is_ok();
                courier = Some(made).filter(|_| goes_on);
                result
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            said.say(pair, "triggers are not run now", &error);
            if std::mem::take(&mut behind) && !lost {
                lost = lose(&engine, pair).await.is_ok();
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}

/// What became of the other one's rows is not told any more.
async fn lose(engine: &Arc<Engine>, (home, source): Pair) -> sql::Result<()> {
    let mut courier = engine.courier(home, source)?;
    while let Taking::Wait(waiting) = block_in_place(|| courier.lose_gone())? {
        wait(&waiting).await;
    }
    settle(&mut courier, 0).await
}

/// `behind`: it is told that the feed does not begin before its cursor any more.
async fn fire_on(
    engine: &Arc<Engine>,
    log: &Arc<dyn Log>,
    (home, source): Pair,
    courier: &mut Courier,
    behind: &mut bool,
) -> sql::Result<()> {
    let interrupt = courier.interrupt();
    let mut entries = Entries::new(log.clone(), home, source);
    let mut looked = Instant::now();
    while engine.leads(home) {
        let (rings, rung) = oneshot::channel();
        let signal = sql::transaction::Signal::default();
        signal.on_set(Box::new(move || rings.send(()).unwrap_or_default()));
        // From here on nothing is missed.
        engine.on_entry(&signal);
        if entries.is_behind(engine) || looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            loop {
                match block_in_place(|| entries.next(engine, &interrupt)) {
                    Ok(Some(batch)) => fire_batch(courier, &batch).await?,
                    Ok(None) => break,
                    Err(stop) => match courier.await_reading(stop) {
                        Ok(waiting) => wait(&waiting).await,
                        Err(error) => {
                            *behind = error.state() == sql::state::BEHIND_RETENTION;
                            return Err(error);
                        }
                    },
                }
            }
            if let Some(passed) = entries.passed(TELL_EVERY.as_micros() as u64) {
                fire_batch(courier, &passed).await?;
            }
            settle(courier, 0).await?;
            if !engine.firing().contains(&(home, source)) {
                return Ok(());
            }
        }
        // An error is a time that is over.
        let _ = timeout(LOOK_EVERY, rung).await;
    }
    Ok(())
}

async fn fire_batch(courier: &mut Courier, batch: &Batch) -> sql::Result<()> {
    while let Taking::Wait(waiting) = block_in_place(|| courier.fire(batch))? {
        wait(&waiting).await;
    }
    settle(courier, PLACED_MAX).await
}

/// Takes all there is, and removes what was taken if it is time for that: else it says that it is due.
async fn round(courier: &mut Courier, cleared: &mut Instant) -> sql::Result<bool> {
    loop {
        match block_in_place(|| courier.take())? {
            Taking::Nothing => break,
            Taking::Placed => settle(courier, PLACED_MAX).await?,
            Taking::Wait(waiting) => wait(&waiting).await,
        }
        // However much there is to take.
        if cleared.elapsed() >= CLEAR_EVERY {
            clear(courier).await?;
            *cleared = Instant::now();
        }
    }
    let due = cleared.elapsed() >= CLEAR_EVERY;
    if due {
        clear(courier).await?;
        *cleared = Instant::now();
    }
    settle(courier, 0).await?;
    Ok(!due)
}

async fn clear(courier: &mut Courier) -> sql::Result<()> {
    loop {
        match block_in_place(|| courier.clear())? {
            Taking::Nothing => return Ok(()),
            Taking::Placed => settle(courier, PLACED_MAX).await?,
            Taking::Wait(waiting) => wait(&waiting).await,
        }
    }
}

/// Until no more than so many entries are open.
async fn settle(courier: &mut Courier, most: usize) -> sql::Result<()> {
    while courier.placed() > most {
        match courier.settle()? {
            Some(waiting) => wait(&waiting).await,
            None => break,
        }
    }
    Ok(())
}

async fn wait(waiting: &Waiting) {
    let (over, woken) = oneshot::channel();
    // The task may have gone on.
    waiting.on_ready(Box::new(move || over.send(()).unwrap_or_default()));
    // It is looked again either way.
    let _ = timeout(LOOK_EVERY, woken).await;
}
