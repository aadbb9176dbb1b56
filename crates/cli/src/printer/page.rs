//! The text form of a report: headings, named values, tables, with colour where it is wanted.

use jiff::Timestamp;
use std::fmt::{Display, Write};

/// Text being written for a person.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    color: bool,
    verbose: bool,
}

/// Which side of its column a cell keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells under headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// Terminal colours by what they mean.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Paint {
    Bold,
    Warning,
    Bad,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Warning => "33",
            Self::Bad => "1;31",
        }
    }
}

impl Page {
    pub(crate) fn new(color: bool, verbose: bool) -> Self {
        Self { text: String::new(), color, verbose }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Whether everything is wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: impl Display) {
        let _ = writeln!(self.text, "{text}");
    }

    /// An empty line, unless the page just begins.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// A heading, set off from what is above.
    pub(crate) fn heading(&mut self, text: impl Display) {
        self.gap();
        let painted = self.paint(Paint::Bold, &text.to_string());
        self.line(painted);
    }

    /// A name and its value, values below each other.
    pub(crate) fn field(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.text, "  {name:<18} {value}");
    }

    /// A table; nothing when it has no rows.
    pub(crate) fn table(&mut self, table: &Table) {
        if table.rows.is_empty() {
            return;
        }
        let widths = table.widths();
        let headings: Vec<String> = table.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let heading = table.row_text(&headings, &widths);
        let painted = self.paint(Paint::Bold, &heading);
        self.line(painted);
        for row in &table.rows {
            let text = table.row_text(row, &widths);
            self.line(text);
        }
    }

    /// Text in a colour, where colour is wanted.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        if self.color { format!("\x1b[{}m{text}\x1b[0m", paint.code()) } else { text.to_owned() }
    }
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].0.chars().count()]).max().unwrap_or(0)
        };
        (0..self.columns.len()).map(width).collect()
    }

    fn row_text(&self, cells: &[String], widths: &[usize]) -> String {
        let mut text = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let _ = match align {
                Align::Left => write!(text, "{cell:<width$}  "),
                Align::Right => write!(text, "{cell:>width$}  "),
            };
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// An instant, in UTC and whole seconds, in a form that `--time` takes back.
pub(crate) fn show_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn tables_line_up_and_end_without_spaces() {
        let mut table = Table::new(&[("backup", Align::Left), ("size", Align::Right), ("note", Align::Left)]);
        table.row(vec!["a".into(), "1 MB".into(), String::new()]);
        table.row(vec!["long name".into(), "512 MB".into(), "pinned".into()]);
        let mut page = Page::new(false, false);
        page.heading("Backups");
        page.table(&table);
        expect![[r#"
            Backups
            backup       size  note
            a            1 MB
            long name  512 MB  pinned
        "#]]
        .assert_eq(&page.into_text());
    }

    #[test]
    fn without_colour_no_escape_is_written() {
        assert_eq!(Page::new(false, false).paint(Paint::Bad, "x"), "x");
        assert_eq!(Page::new(true, false).paint(Paint::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
