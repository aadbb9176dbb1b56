//! Shows how long work still takes: a bar on a terminal, a line every few seconds elsewhere. Always on stderr.

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgproof_base::{Bytes, Progress, Stage, human_duration};
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How much talk is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

/// Between two lines where there is no terminal: a log should tell that work goes on, not how each second was spent.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Receives the progress of any work and shows it.
#[derive(Debug)]
pub(crate) struct Talk {
    verbosity: Verbosity,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bar: Option<ProgressBar>,
    line: StageLine,
    next_line: Instant,
}

/// Where a stage stands.
#[derive(Debug, Clone, Copy)]
struct StageLine {
    stage: Option<Stage>,
    total: Option<u64>,
    done: u64,
    began: Instant,
}

impl Talk {
    /// `terminal` says whether stderr is one.
    pub(crate) fn new(verbosity: Verbosity, terminal: bool) -> Self {
        let now = Instant::now();
        let line = StageLine { stage: None, total: None, done: 0, began: now };
        Self {
            verbosity,
            terminal,
            state: Mutex::new(State { bar: None, line, next_line: now + LINE_EVERY }),
        }
    }

    /// Takes the bar off the terminal, before a result or an error is written.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        state.line.stage = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere must not silence the talk.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn say(&self, state: &State, text: &str) {
        match &state.bar {
            Some(bar) => bar.println(text),
            None => {
                // Nobody left to tell is no reason to fail.
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }
}

impl Progress for Talk {
    fn stage(&self, stage: Stage, bytes: Option<u64>) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let mut state = self.lock();
        let now = Instant::now();
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        state.line = StageLine { stage: Some(stage), total: bytes, done: 0, began: now };
        state.next_line = now + LINE_EVERY;
        if self.terminal {
            state.bar = Some(new_bar(stage, bytes));
        }
    }

    fn advance(&self, bytes: u64) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let mut state = self.lock();
        state.line.done += bytes;
        if let Some(bar) = &state.bar {
            bar.inc(bytes);
            return;
        }
        let now = Instant::now();
        if now >= state.next_line {
            state.next_line = now + LINE_EVERY;
            self.say(&state, &state.line.text(now));
        }
    }

    fn note(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.say(&self.lock(), &format!("note: {text}"));
        }
    }
}

impl StageLine {
    fn text(&self, now: Instant) -> String {
        let name = self.stage.map_or("working", stage_name);
        let elapsed = now.saturating_duration_since(self.began).as_secs_f64().max(0.001);
        let rate = self.done as f64 / elapsed;
        let done = Bytes(self.done);
        let speed = Bytes(rate as u64);
        match self.total.filter(|total| *total > 0) {
            None => format!("{name}: {done}, {speed}/s"),
            Some(total) => {
                let left = (total.saturating_sub(self.done)) as f64 / rate.max(1.0);
                let left = human_duration(Duration::from_secs_f64(left.min(1e9)));
                let percent = 100 * self.done.min(total) / total;
                format!("{name}: {done} of {} ({percent} %), {speed}/s, {left} left", Bytes(total))
            }
        }
    }
}

fn new_bar(stage: Stage, bytes: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let bar = ProgressBar::with_draw_target(bytes, target).with_message(stage_name(stage));
    let template = match bytes {
        Some(_) => "{msg:24} [{bar:30}] {percent:>3} %  {rate}  {eta} left",
        None => "{msg:24} {spinner}  {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{}/s", HumanBytes(state.per_sec() as u64));
        };
        bar.set_style(style.progress_chars("=> ").with_key("rate", rate));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Checkpoint => "waiting for checkpoint",
        Stage::Changes => "finding changes",
        Stage::Copying => "copying",
        Stage::WaitingForWal => "waiting for WAL",
        Stage::Restoring => "restoring",
        Stage::Syncing => "syncing to disk",
        Stage::Verifying => "verifying",
        Stage::Recovering => "recovering",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_amount_rate_and_time_left() {
        let began = Instant::now();
        let line = StageLine { stage: Some(Stage::Copying), total: Some(400 << 20), done: 100 << 20, began };
        let text = line.text(began + Duration::from_secs(10));
        assert_eq!(text, "copying: 100 MB of 400 MB (25 %), 10 MB/s, 30.0 s left");
        let unknown = StageLine { total: None, ..line };
        assert_eq!(unknown.text(began + Duration::from_secs(10)), "copying: 100 MB, 10 MB/s");
    }

    #[test]
    fn no_time_is_left_when_nothing_is_done_yet() {
        let began = Instant::now();
        let line = StageLine { stage: Some(Stage::Copying), total: Some(1), done: 0, began };
        assert!(line.text(began).contains("0 bytes of 1 bytes (0 %)"));
    }
}
