//! `pgproof completions` and `pgproof man`, from the same definitions as the parser.

use crate::args::high::Context;
use crate::args::low::{CompletionsArgs, LowArgs, ManArgs};
use crate::exit::Exit;
use anyhow::Context as _;
use clap::CommandFactory;

pub(crate) fn completions(args: &CompletionsArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut LowArgs::command(), "pgproof", &mut script);
    context.printer.raw(&script)?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &ManArgs, context: &Context) -> anyhow::Result<Exit> {
    match &args.out {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(LowArgs::command()).render(&mut page)?;
            context.printer.raw(&page)?;
        }
        Some(directory) => {
            let shown = directory.display();
            std::fs::create_dir_all(directory).with_context(|| format!("could not create {shown}"))?;
            clap_mangen::generate_to(LowArgs::command(), directory)
                .with_context(|| format!("could not write man pages into {shown}"))?;
        }
    }
    Ok(Exit::Done)
}
