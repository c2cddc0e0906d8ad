//! What is wrong with a broken piece of text, in the user's words.
