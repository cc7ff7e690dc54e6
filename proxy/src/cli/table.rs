//! Columns of text that line up whether or not they are coloured.

use crate::cli::output::{Colours, Ink};

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    ink: Ink,
    side: Side,
}

/// On which side a cell's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    /// Numbers.
    Right,
}

impl Cell {
    /// Text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ink: Ink::Plain, side: Side::Left }
    }

    /// A number.
    pub(crate) fn number(text: impl Into<String>) -> Self {
        Self { side: Side::Right, ..Self::text(text) }
    }

    /// The cell in another colour.
    pub(crate) fn ink(self, ink: Ink) -> Self {
        Self { ink, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Lays out rows in columns, two spaces apart; no line ends with a space.
pub(crate) fn render(rows: &[Vec<Cell>], colours: Colours) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().map(|row| line(row, &widths, colours) + "\n").collect()
}

fn line(row: &[Cell], widths: &[usize], colours: Colours) -> String {
    let mut line = String::new();
    // Spaces wait until something follows them.
    let mut spaces = 0;
    for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
        let gap = if n == 0 { 0 } else { 2 };
        let fill = width.saturating_sub(cell.width());
        let (before, after) = match cell.side {
            Side::Left => (gap, fill),
            Side::Right => (gap + fill, 0),
        };
        spaces += before;
        if !cell.text.is_empty() {
            line.extend(std::iter::repeat_n(' ', std::mem::take(&mut spaces)));
            line.push_str(&cell.ink.paint(&cell.text, colours));
        } else {
            spaces += cell.width();
        }
        spaces += after;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![Cell::text("NAME").ink(Ink::Strong), Cell::number("N"), Cell::text("NOTE")],
            vec![Cell::text("grün"), Cell::number("1000").ink(Ink::Bad), Cell::text("")],
            vec![Cell::text(""), Cell::number("7"), Cell::text("x")],
        ]
    }

    #[test]
    fn columns_line_up_and_lines_end_with_text() {
        assert_eq!(render(&rows(), Colours::Off), "NAME     N  NOTE\ngrün  1000\n         7  x\n");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let coloured = render(&rows(), Colours::On);
        let plain = ["\x1b[1m", "\x1b[31m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, render(&rows(), Colours::Off));
    }
}
