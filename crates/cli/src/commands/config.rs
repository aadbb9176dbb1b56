//! `pgproof config explain`: every setting in effect, and who said so.

use crate::args::high::Context;
use crate::args::low::ExplainArgs;
use crate::config::definitions::{Kind, Otherwise};
use crate::config::{Config, Origin, Setting};
use crate::exit::Exit;
use crate::printer::{Align, Page, Report, Table};
use serde::Serialize;
use std::path::PathBuf;

/// The settings in effect.
#[derive(Debug, Serialize)]
pub(crate) struct ConfigReport {
    /// The file that was read.
    file: Option<PathBuf>,
    settings: Vec<SettingLine>,
}

#[derive(Debug, Serialize)]
struct SettingLine {
    name: String,
    /// None when it is found out when needed; secrets are not shown.
    value: Option<String>,
    /// How it is found out then.
    #[serde(skip_serializing_if = "Option::is_none")]
    otherwise: Option<&'static str>,
    origin: Origin,
}

pub(crate) fn explain(args: &ExplainArgs, context: &Context) -> anyhow::Result<Exit> {
    let report = report(&context.config()?, args.name.as_deref());
    context.printer.report("config explain", &report)?;
    Ok(Exit::Done)
}

fn report(config: &Config, wanted: Option<&str>) -> ConfigReport {
    let lines = config.settings.all.iter().map(line);
    let is_wanted = |line: &SettingLine| wanted.is_none_or(|part| line.name.contains(part));
    ConfigReport { file: config.file.clone(), settings: lines.filter(is_wanted).collect() }
}

fn line(setting: &Setting) -> SettingLine {
    let value = match (&setting.text, setting.key.kind) {
        (Some(_), Kind::Secret) => Some("(hidden)".to_owned()),
        (text, _) => text.clone(),
    };
    let otherwise = match (&setting.text, setting.key.otherwise) {
        (None, Otherwise::Found(how)) => Some(how),
        _ => None,
    };
    SettingLine { name: setting.name(), value, otherwise, origin: setting.origin.clone() }
}

impl Report for ConfigReport {
    fn render(&self, page: &mut Page) {
        match &self.file {
            Some(file) => page.line(format!("read from {}", file.display())),
            None => page.line("no pgproof.toml was found"),
        }
        page.gap();
        let columns = [("setting", Align::Left), ("value", Align::Left), ("said by", Align::Left)];
        let mut table = Table::new(&columns);
        for line in &self.settings {
            let value = match (&line.value, line.otherwise) {
                (Some(value), _) => value.clone(),
                (None, Some(how)) => format!("({how})"),
                (None, None) => String::new(),
            };
            table.row(vec![line.name.clone(), value, line.origin.to_string()]);
        }
        page.table(&table);
    }
}
