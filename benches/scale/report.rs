//! What was measured, as one Markdown table.

use std::fmt::Write as _;

/// Rows and columns in the order of their first cells.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<String>,
    columns: Vec<String>,
    cells: Vec<(usize, usize, String)>,
}

fn place(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

impl Report {
    pub fn cell(&mut self, row: &str, column: &str, text: String) {
        eprintln!("{row}, {column}: {text}");
        let (row, column) = (place(&mut self.rows, row), place(&mut self.columns, column));
        self.cells.push((row, column, text));
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("| measure | {} |\n", self.columns.join(" | "));
        let _ = writeln!(text, "| --- |{}", " --- |".repeat(self.columns.len()));
        for (row, title) in self.rows.iter().enumerate() {
            let _ = write!(text, "| {title} |");
            for column in 0..self.columns.len() {
                let cell = self.cells.iter().find(|(r, c, _)| (*r, *c) == (row, column));
                let _ = write!(text, " {} |", cell.map_or("–", |(_, _, text)| text));
            }
            text.push('\n');
        }
        text
    }
}
