//! `pgproof fence`: started by the agent, and outlives it.

use crate::args::cluster::FenceArgs;
use crate::exit::Exit;
use pgproof_ha::fence::{FencePlace, run};

pub(crate) fn fence(args: &FenceArgs) -> anyhow::Result<Exit> {
    run(&FencePlace { directory: args.directory.clone() }, &args.pgdata)?;
    Ok(Exit::Done)
}
