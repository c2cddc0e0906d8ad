//! What tests draw to put programs out of order: a reproducible stream of numbers, and pieces of text.

/// A reproducible stream of numbers below a bound.
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// One of `PIECES`.
    pub fn piece(&mut self) -> &'static str {
        PIECES[self.below(PIECES.len())]
    }
}

/// What is put in at random: operators, names, words of the language, numbers, and what is no part of it.
#[rustfmt::skip]
const PIECES: [&str; 46] = [
    "(", ")", "[", "]", "{", "}", ";", ",", "'", "=", "*", ".*", "+", "-", "^", "..", ".", ":", "#", "\"",
    "t", "T", "H", "S", "β", "∑", "🦀", "\u{0}", "\u{FEFF}", "\r\n",
    "0", "1e", "1e9", "9007199254740993", "999999999999999999999",
    "if", "prod", " if ", " then ", " not ", " or ", " variant ", " repeat ", "\nlet ", "\nstack s {", "\ninput ",
];
