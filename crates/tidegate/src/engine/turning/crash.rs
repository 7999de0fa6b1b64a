//! Where a test has the process die, as `kill -9` does: at any moment of any step of a turn.
//!
//! `TIDEGATE_CRASH_AT=STEP:MOMENT`, the step by its name and the moment `before` (nothing of it is recorded), `inside`
//! (it has begun and is under way), `after` (it has had its effect, which is not recorded) or `done`. Without the
//! variable nothing happens.

use std::sync::OnceLock;
use std::time::Duration;

use tidegate_control::Step;
use tokio::time::sleep;

const VARIABLE: &str = "TIDEGATE_CRASH_AT";
/// How far into a step its inside is.
const INSIDE: Duration = Duration::from_millis(3);

/// A moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    Inside,
    After,
    Done,
}

impl Moment {
    fn as_str(self) -> &'static str {
        match self {
            Moment::Before => "before",
            Moment::Inside => "inside",
            Moment::After => "after",
            Moment::Done => "done",
        }
    }
}

/// Dies if that was asked for at this moment.
pub fn at(step: Step, moment: Moment) {
    if is_wanted(step, moment) {
        die();
    }
}

/// Does a step, and dies in the middle of it if that was asked for.
pub async fn inside<T>(step: Step, work: impl Future<Output = T>) -> T {
    if !is_wanted(step, Moment::Inside) {
        return work.await;
    }
    tokio::select! {
        _ = work => {}
        () = sleep(INSIDE) => {}
    }
    die()
}

fn is_wanted(step: Step, moment: Moment) -> bool {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var(VARIABLE).ok());
    wanted.as_ref().is_some_and(|wanted| wanted.split_once(':') == Some((step.name(), moment.as_str())))
}

/// Neither destructors nor whoever else runs in this process get a chance to tidy up.
fn die() -> ! {
    std::process::abort()
}
