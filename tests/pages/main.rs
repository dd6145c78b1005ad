//! The pages for people in a real browser: a made-up province beside five hundred agents in mixed states,
//! a person who signs in with the keyboard, and every page in both languages on a desk and on a telephone.

mod chromium;
#[path = "../../hub/tests/serve/five_hundred.rs"]
mod five_hundred;
mod hall;
mod person;
mod tour;
