//! Tables: rows under a header. `Columns` have widths that are known before the rows are, so that `Streamed` prints each
//! when it is done; `aligned` has all rows at once.

use crate::{failure::Failure, print};

/// The columns of a table that is printed row by row.
#[derive(Debug, Clone)]
pub struct Columns(Vec<Column>);

/// A title, the least width, and where cells stand in it.
#[derive(Debug, Clone)]
pub struct Column {
    title: &'static str,
    width: usize,
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

impl Columns {
    /// (title, least width, side) each.
    pub fn new(columns: impl IntoIterator<Item = (&'static str, usize, Side)>) -> Self {
        let column = |(title, width, side): (&'static str, usize, Side)| Column {
            title,
            width: width.max(title.chars().count()),
            side,
        };
        Self(columns.into_iter().map(column).collect())
    }

    fn header(&self) -> String {
        self.row(&self.0.iter().map(|column| column.title).collect::<Vec<_>>())
    }

    /// A row. A cell that is wider than its column moves those after it.
    fn row<C: AsRef<str>>(&self, cells: &[C]) -> String {
        let padded = cells.iter().zip(&self.0).map(|(cell, column)| {
            let (cell, width) = (cell.as_ref(), column.width);
            match column.side {
                Side::Right => format!("{cell:>width$}"),
                Side::Left => format!("{cell:<width$}"),
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    }
}

/// A table that is printed as its rows are done: the header with the first one.
pub struct Streamed {
    columns: Columns,
    titled: bool,
}

impl Streamed {
    pub fn new(columns: Columns) -> Self {
        Self { columns, titled: false }
    }

    pub fn print<C: AsRef<str>>(&mut self, cells: &[C]) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.titled, true) {
            print::line(&self.columns.header())?;
        }
        print::line(&self.columns.row(cells))
    }
}

/// Rows under a header in columns as wide as they need; numbers to the right.
pub fn aligned(header: &[&'static str], rows: &[Vec<String>]) -> String {
    let column = |(place, title): (usize, &&'static str)| {
        let cells = || rows.iter().filter_map(|row| row.get(place));
        let numeric =
            !rows.is_empty() && cells().all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-'));
        let width = cells().map(|cell| cell.chars().count()).max().unwrap_or(0);
        (*title, width, if numeric { Side::Right } else { Side::Left })
    };
    let columns = Columns::new(header.iter().enumerate().map(column));
    let lines = std::iter::once(columns.header()).chain(rows.iter().map(|row| columns.row(row)));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_under_their_titles() {
        let columns = Columns::new([("form", 9, Side::Left), ("C", 3, Side::Right), ("where", 0, Side::Left)]);
        assert_eq!(columns.header(), "form         C  where");
        assert_eq!(columns.row(&["chunked", "64", "plain"]), "chunked     64  plain");
        assert_eq!(columns.row(&["recurrent", "", ""]), "recurrent");
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [vec!["a".to_string(), "1".to_string()], vec!["long".to_string(), "12.5".to_string()]];
        assert_eq!(aligned(&["name", "n"], &rows), "name     n\na        1\nlong  12.5");
    }
}
