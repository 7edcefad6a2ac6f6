//! Tables that fit the screen: columns give way in a fixed order, the last one wraps.

use super::{COLUMNS, Screen};

/// What a cell says about the state of things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On its way, or worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// Of little interest.
    Dim,
    /// A heading.
    Bold,
}

impl Paint {
    /// The colour of a state's name.
    pub fn of_state(state: &str) -> Self {
        match state {
            "alive" | "running" | "up" | "created" => Self::Good,
            "suspect" | "degraded" | "starting" | "stopping" | "placed" | "joining" | "changed"
            | "unhealthy" | "draining" => Self::Warn,
            "lost" | "failed" | "unplaced" | "down" | "removed" => Self::Bad,
            "stopped" | "left" | "unchanged" => Self::Dim,
            _ => Self::Plain,
        }
    }

    /// The text in this colour, if colours are wanted.
    pub fn on(self, text: &str, screen: &Screen) -> String {
        let code = match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Dim => "2",
            Self::Bold => "1",
        };
        if code.is_empty() || text.is_empty() || !screen.colour {
            text.to_owned()
        } else {
            format!("\x1b[{code}m{text}\x1b[0m")
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    paint: Paint,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), paint: Paint::Plain }
    }
}

impl Cell {
    /// A cell whose colour follows from the state that it names.
    pub fn state(state: &str) -> Self {
        Self { text: state.to_owned(), paint: Paint::of_state(state) }
    }

    /// A cell of that colour.
    pub fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self { text: text.into(), paint }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Keeps its width.
    Fixed,
    /// Numbers, at the right edge.
    Right,
    /// Gives way: shortened with '…'.
    Shrinks,
    /// Text that goes on in the next lines. Only as the last column.
    Wraps,
}

struct Column {
    title: &'static str,
    kind: Kind,
    only_wide: bool,
}

/// A table under construction.
#[derive(Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

const GAP: usize = 2;
/// What wraps keeps this width while other columns can still shrink.
const WRAPPED: usize = 16;
/// A column never shrinks below this.
const NARROWEST: usize = 8;

impl Table {
    /// A table without columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shifted to the right by so many columns.
    #[must_use]
    pub fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    fn column(mut self, title: &'static str, kind: Kind) -> Self {
        self.columns.push(Column { title, kind, only_wide: false });
        self
    }

    /// A column that keeps its width.
    #[must_use]
    pub fn fixed(self, title: &'static str) -> Self {
        self.column(title, Kind::Fixed)
    }

    /// A column of numbers.
    #[must_use]
    pub fn right(self, title: &'static str) -> Self {
        self.column(title, Kind::Right)
    }

    /// A column that is shortened when there is no room; earlier ones keep more.
    #[must_use]
    pub fn shrinks(self, title: &'static str) -> Self {
        self.column(title, Kind::Shrinks)
    }

    /// The last column, whose text wraps.
    #[must_use]
    pub fn wraps(self, title: &'static str) -> Self {
        self.column(title, Kind::Wraps)
    }

    /// A column that only wide tables have.
    #[must_use]
    pub fn wide(mut self, title: &'static str) -> Self {
        self.columns.push(Column { title, kind: Kind::Fixed, only_wide: true });
        self
    }

    /// Adds a row with a cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Draws it.
    pub fn draw(&self, screen: &Screen) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|i| screen.wide || !self.columns[*i].only_wide)
            .filter(|i| self.columns[*i].title.is_empty() || !self.is_blank(*i))
            .collect();
        let widths = self.widths(&shown, screen);
        let mut out = String::new();
        if self.columns.iter().any(|column| !column.title.is_empty()) {
            let titles: Vec<Cell> =
                shown.iter().map(|i| Cell::painted(self.columns[*i].title, Paint::Bold)).collect();
            self.line(&titles.iter().collect::<Vec<_>>(), &shown, &widths, screen, &mut out);
        }
        for row in &self.rows {
            let cells: Vec<&Cell> = shown.iter().map(|i| &row[*i]).collect();
            self.line(&cells, &shown, &widths, screen, &mut out);
        }
        out
    }

    /// A column that says nothing in any row is left out.
    fn is_blank(&self, column: usize) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row[column].text.is_empty())
    }

    fn widths(&self, shown: &[usize], screen: &Screen) -> Vec<usize> {
        let mut widths: Vec<usize> = shown
            .iter()
            .map(|i| {
                let cells = self.rows.iter().map(|row| length(&row[*i].text)).max().unwrap_or(0);
                cells.max(length(self.columns[*i].title))
            })
            .collect();
        if screen.wide {
            return widths;
        }
        let gaps = self.indent + GAP * widths.len().saturating_sub(1);
        let room = COLUMNS.saturating_sub(gaps);
        // The wrapping column gives way first, but keeps a legible width while others can shrink.
        let wraps = shown.iter().position(|i| self.columns[*i].kind == Kind::Wraps);
        let mut over = widths.iter().sum::<usize>().saturating_sub(room);
        if let Some(last) = wraps {
            over -= give(&mut widths[last], over, WRAPPED);
        }
        for place in (0..shown.len()).rev() {
            if self.columns[shown[place]].kind == Kind::Shrinks {
                over -= give(&mut widths[place], over, NARROWEST);
            }
        }
        if let Some(last) = wraps {
            give(&mut widths[last], over, NARROWEST);
        }
        widths
    }

    fn line(&self, cells: &[&Cell], shown: &[usize], widths: &[usize], screen: &Screen, out: &mut String) {
        let mut text = " ".repeat(self.indent);
        let mut more: Vec<String> = Vec::new();
        let mut column_start = self.indent;
        for (place, cell) in cells.iter().enumerate() {
            let (kind, width) = (self.columns[shown[place]].kind, widths[place]);
            let mut content = cell.text.clone();
            if kind == Kind::Wraps && !screen.wide {
                let mut lines = wrap(&content, width).into_iter();
                content = lines.next().unwrap_or_default();
                more = lines.map(|line| format!("{}{line}", " ".repeat(column_start))).collect();
            }
            let content = shorten(&content, width);
            let pad = " ".repeat(width - length(&content));
            let painted = cell.paint.on(&content, screen);
            let gap = if place == 0 { "" } else { "  " };
            let cell = if kind == Kind::Right {
                format!("{gap}{pad}{painted}")
            } else {
                format!("{gap}{painted}{pad}")
            };
            text.push_str(&cell);
            column_start += width + GAP;
        }
        out.push_str(text.trim_end());
        out.push('\n');
        for line in more {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

/// Takes up to `over` from a width, leaving at least `keep`; how much was taken.
fn give(width: &mut usize, over: usize, keep: usize) -> usize {
    let taken = width.saturating_sub(keep).min(over);
    *width -= taken;
    taken
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn shorten(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Breaks text at spaces; a word longer than the width is broken inside.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let line = lines.last_mut().expect("there is always a line");
            let used = length(line) + usize::from(!line.is_empty());
            if used + word.len() <= width {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.extend(word.drain(..));
            } else if line.is_empty() {
                line.extend(word.drain(..width));
                lines.push(String::new());
            } else {
                lines.push(String::new());
            }
        }
    }
    if lines.len() > 1 && lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Screen = Screen { wide: false, colour: false, now_ms: 0 };

    #[test]
    fn long_cells_give_way_and_the_last_wraps() {
        let mut table = Table::new().shrinks("NAME").right("N").wraps("WHY");
        table.row(["a".repeat(63).into(), "7".into(), "word ".repeat(12).into()]);
        table.row(["b".into(), "12".into(), "fine".into()]);
        let drawn = table.draw(&PLAIN);
        assert!(drawn.lines().all(|line| length(line) <= COLUMNS), "{drawn}");
        assert!(drawn.contains("aaa…"));
        assert!(drawn.lines().count() > 4, "{drawn}");
    }

    #[test]
    fn wide_tables_lose_nothing() {
        let mut table = Table::new().shrinks("NAME").wide("MORE").wraps("WHY");
        table.row(["a".repeat(63).into(), "x".into(), "word ".repeat(12).into()]);
        let drawn = table.draw(&Screen { wide: true, ..PLAIN });
        assert!(drawn.contains(&"a".repeat(63)) && drawn.contains("MORE"));
        assert_eq!(drawn.lines().count(), 2);
    }

    #[test]
    fn blank_columns_are_left_out() {
        let mut table = Table::new().fixed("A").fixed("B");
        table.row(["x".into(), "".into()]);
        assert_eq!(table.draw(&PLAIN), "A\nx\n");
    }

    #[test]
    fn colours_do_not_change_the_width() {
        let mut table = Table::new().fixed("A").fixed("B");
        table.row([Cell::state("lost"), "x".into()]);
        let drawn = table.draw(&Screen { colour: true, ..PLAIN });
        assert!(drawn.contains("\x1b[1;31mlost\x1b[0m  x"), "{drawn}");
    }

    #[test]
    fn text_breaks_at_spaces_or_inside_long_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
