//! The nearest known name to a misspelt one, for "did you mean". Knows no names of its own.

/// The candidate nearest to `name` in edit distance, if it is near enough to be a likely slip of the pen:
/// at most a third of the longer name's letters away (one letter for short names), or equal but for case.
/// Ties go to the first candidate.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        if candidate == name {
            continue;
        }
        let found = if candidate.to_lowercase() == name.to_lowercase() { 0 } else { distance(name, candidate) };
        let (ours, theirs) = (name.chars().count(), candidate.chars().count());
        // A one-letter name is near every other one: only its other case is a slip.
        let near = found == 0 || (ours.min(theirs) > 1 && found <= (ours.max(theirs) / 3).max(1));
        if near && best.is_none_or(|(least, _)| found < least) {
            best = Some((found, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The names that `name` may mean: those that hold it, and the nearest one; in the order of the alphabet.
pub fn near<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let holds = |candidate: &&&str| name.chars().count() > 1 && candidate.contains(name);
    let mut found: Vec<&str> = candidates.iter().filter(holds).copied().collect();
    found.extend(nearest(name, candidates.iter().copied()));
    found.sort_unstable();
    found.dedup();
    found
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    // Far apart in length is far apart: spares the table for huge names.
    if a.len().abs_diff(b.len()) > 8 || a.len().max(b.len()) > 128 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 6] = ["update", "state", "output", "softmax", "K", "beta"];

    #[test]
    fn a_slip_of_the_pen_finds_its_name() {
        assert_eq!(nearest("updte", NAMES), Some("update"));
        assert_eq!(nearest("ouptut", NAMES), Some("output"));
        assert_eq!(nearest("sofmtax", NAMES), Some("softmax"));
        assert_eq!(nearest("Beta", NAMES), Some("beta"));
        assert_eq!(nearest("k", NAMES), Some("K"));
    }

    #[test]
    fn part_of_a_name_finds_those_that_hold_it() {
        assert_eq!(near("out", NAMES), ["output"]);
        assert_eq!(near("state", ["state", "initial-state", "stat"]), ["initial-state", "stat", "state"]);
        assert_eq!(near("zzz", NAMES), [""; 0]);
    }

    #[test]
    fn a_far_name_finds_none() {
        assert_eq!(nearest("q", NAMES), None);
        assert_eq!(nearest("convolution", NAMES), None);
        assert_eq!(nearest("", NAMES), None);
        assert_eq!(nearest(&"x".repeat(10_000), NAMES), None);
    }
}
