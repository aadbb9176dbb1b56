//! The `pgproof` command: arguments in, one library call, a report out.
//!
//! Everything here is asking and showing. What a command does is in the crate of its capability; [`args`] says what was asked, [`commands`]
//! has one file for each verb, [`printer`] writes the result, [`exit`] the code, [`config`] is `pgproof.toml`.

mod account;
mod agent;
mod archive_command;
mod args;
mod check;
mod commands;
mod config;
mod evidence;
mod exit;
mod fault;
mod init;
mod instance;
mod key_file;
mod objectives;
mod printer;
mod program;
mod progress;
mod repairs;
mod repository;
mod second;
mod stand_in;

use args::high::{Context, Surroundings};
use args::low::LowArgs;
use clap::Parser;
use exit::{Exit, Rules};
use fault::Fault;
use std::ffi::OsString;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let rules = Rules::of(&arguments);
    // A panic would exit with 101, which PostgreSQL reads as the end of the archive when it comes from restore_command. The
    // default hook has printed it by then.
    let ended = catch_unwind(AssertUnwindSafe(|| run(&arguments, rules)))
        .unwrap_or_else(|_| rules.code(Exit::Failed));
    ExitCode::from(ended)
}

fn run(arguments: &[OsString], rules: Rules) -> u8 {
    let low = match LowArgs::try_parse_from(arguments) {
        Ok(low) => low,
        Err(error) => {
            // Help and version are asked for; clap writes them to stdout and errors to stderr.
            let asked = !error.use_stderr();
            let _ = error.print();
            return rules.code(if asked { Exit::Done } else { Exit::Usage });
        }
    };
    if let Some(parent) = low.global.child_of {
        agent::die_with_parent(parent);
    }
    if low.global.tell.is_none() && commands::may_hang(&low.command) {
        return stand_in::run(arguments).unwrap_or_else(|error| {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            rules.code(Exit::Failed)
        });
    }
    let teller = low.global.tell.and_then(|fd| stand_in::teller(fd).ok());
    let code = rules.code(carry_out(&low));
    if let Some(teller) = teller {
        stand_in::tell(teller, code);
    }
    code
}

fn carry_out(low: &LowArgs) -> Exit {
    let context = Context::new(low, Surroundings::observe());
    let outcome = commands::run(low, &context);
    context.talk.clear();
    match outcome {
        Ok(exit) => exit,
        Err(error) => {
            context.printer.fault(commands::name(&low.command), &Fault::new(&error));
            Exit::Failed
        }
    }
}
