//! `docs/limits.md` says what the code says.

use std::fs;
use std::path::Path;

/// The parts of a row of a table, without the quotes of code.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
    Some(row.split(" | ").map(|cell| cell.trim_matches('`')).collect())
}

#[test]
fn every_limit_has_the_value_that_the_page_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let page = fs::read_to_string(root.join("docs/limits.md")).expect("the page");
    let mut checked = 0;
    for row in page.lines().filter_map(cells) {
        let [what, value, _, file] = row[..] else { panic!("a row with other columns: {row:?}") };
        let Some((name, value)) = value.split_once(" = ") else { continue };
        let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let declared = source.lines().find_map(|line| {
            let (_, rest) = line.split_once(&format!("const {name}: "))?;
            rest.split_once(" = ").map(|(_, value)| value.trim_end_matches(';'))
        });
        assert_eq!(declared, Some(value), "{what}: {name} in {file}");
        checked += 1;
    }
    assert!(checked > 60, "{checked} limits were found on the page");
}
