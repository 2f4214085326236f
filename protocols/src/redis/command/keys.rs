//! Where the keys of a command are among its words.
//!
//! Holds key specifications as nodes give them and the walk over keys. It must not know which
//! command it walks, but for the two rules by hand. Its invariant: where it cannot be sure of all
//! keys it says so.

use super::arguments::Variant;
use super::{Command, arguments};

/// One place of keys or channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// What is done with them.
    pub access: Access,
    /// Where they begin.
    pub begin: Begin,
    /// How far they go.
    pub find: Find,
    /// Whether there may be keys that this does not find.
    pub is_incomplete: bool,
}

/// What is done with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// They are no keys but channels of a shard.
    Channel,
    /// They are written whatever they hold.
    Overwrite,
    /// They are read.
    Read,
    /// They are removed.
    Remove,
    /// They are read and written.
    Write,
}

/// Where keys begin. Positions count the command's name as 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// At a position.
    Index(u32),
    /// Behind a word.
    Keyword {
        /// The word, in any case.
        word: Box<[u8]>,
        /// Where to begin looking for it. Negative: that far from the end, and towards the front.
        from: i32,
    },
    /// Not said.
    Unknown,
}

/// How far keys go. All is relative to where they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// Their count is among the words.
    KeyNum {
        /// Where the count is.
        at: u32,
        /// Where the first key is.
        first: u32,
        /// How far it is from one to the next.
        step: u32,
    },
    /// Up to a position.
    Range {
        /// The last key; negative: so far from the end.
        last: i32,
        /// How far it is from one to the next.
        step: u32,
        /// If above 1, only the first of so many equal parts of the words are keys.
        limit: u32,
    },
    /// Not said.
    Unknown,
}

/// Why the keys are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The words are not as the command wants them: a node refuses them.
    #[error("the words are not as the command wants them")]
    Arguments,
    /// The node did not say where the keys are.
    #[error("the node does not say where the keys of this command are")]
    Specification,
}

/// The keys of one request, in the order in which the node names them.
#[derive(Debug, Clone)]
pub struct Keys<'c, I> {
    words: I,
    run: Run<I>,
    later: Later<'c>,
}

/// Where the next keys come from once a run is at its end.
#[derive(Debug, Clone)]
enum Later<'c> {
    At(usize),
    Specs(std::slice::Iter<'c, KeySpec>),
}

/// Keys at equal distances.
#[derive(Debug, Clone)]
struct Run<I> {
    /// What follows the last key that was answered.
    words: I,
    /// How many words lie before the next key.
    skip: usize,
    /// How many words lie between two.
    between: usize,
    left: usize,
}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> Run<I> {
    /// `count` keys from position `first` on.
    const fn new(words: I, first: usize, step: usize, count: usize) -> Self {
        let between = step.saturating_sub(1);
        Self {
            words,
            skip: first,
            between,
            left: count,
        }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let key = self.words.nth(self.skip);
        self.skip = self.between;
        key
    }
}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> Iterator for Keys<'_, I> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(key) = self.run.next() {
                return Some(key);
            }
            self.run = match &mut self.later {
                Later::At(0) => return None,
                Later::At(position) => Run::new(self.words.clone(), std::mem::take(position), 1, 1),
                // All were resolved once before the first was answered.
                Later::Specs(specs) => next_of_keys(specs)?.resolve(&self.words).ok()?,
            };
        }
    }
}

/// The next that is of keys, not of channels.
fn next_of_keys<'c>(specs: &mut std::slice::Iter<'c, KeySpec>) -> Option<&'c KeySpec> {
    specs.find(|spec| spec.access != Access::Channel)
}

impl Command {
    /// The keys among the words of a request. What BY and GET of a SORT name is not among them.
    pub fn keys<'a, I>(&self, words: I) -> Result<Keys<'_, I>, Unknown>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        match self.variant {
            Variant::Migrate => migrated(words),
            Variant::Sort => sorted(words, self.is_readonly),
            _ => self.specified(words),
        }
    }

    /// The channels of a shard among the words of a request, which have slots as keys have.
    pub fn channels<'a, I>(&self, words: I) -> impl Iterator<Item = &'a [u8]>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let specs = self.keys.iter();
        let of_channels = specs.filter(|spec| spec.access == Access::Channel);
        let runs = of_channels.filter_map(move |spec| spec.resolve(&words).ok());
        runs.flat_map(|mut run| std::iter::from_fn(move || run.next()))
    }

    fn specified<'a, I>(&self, words: I) -> Result<Keys<'_, I>, Unknown>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let mut specs = self.keys.iter();
        let Some(first) = next_of_keys(&mut specs) else {
            return Ok(Keys {
                run: Run::new(words.clone(), 0, 1, 0),
                words,
                later: Later::At(0),
            });
        };
        if self.keys.iter().any(|spec| spec.is_incomplete) {
            return Err(Unknown::Specification);
        }
        let run = first.resolve(&words)?;
        let mut others = specs.clone();
        while let Some(spec) = next_of_keys(&mut others) {
            spec.resolve(&words)?;
        }
        Ok(Keys {
            words,
            run,
            later: Later::Specs(specs),
        })
    }
}

impl KeySpec {
    fn resolve<'a, I>(&self, words: &I) -> Result<Run<I>, Unknown>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let begin = match &self.begin {
            Begin::Index(position) => *position as usize,
            // Such a word is an option: without it there are no such keys.
            Begin::Keyword { word, from } => match position_behind(words, word, *from) {
                Some(position) => position,
                None => return Ok(Run::new(words.clone(), 0, 1, 0)),
            },
            Begin::Unknown => return Err(Unknown::Specification),
        };
        let (first, step, count) = self.find.resolve(words, begin)?;
        Ok(Run::new(words.clone(), first, step, count))
    }
}

impl Find {
    /// Position of the first key, distance and count.
    fn resolve<'a, I>(self, words: &I, begin: usize) -> Result<(usize, usize, usize), Unknown>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let mut rest = words.clone();
        if begin > 0 {
            rest.nth(begin - 1).ok_or(Unknown::Arguments)?;
        }
        match self {
            Self::KeyNum { at, first, step } => {
                let text = rest.clone().nth(at as usize).ok_or(Unknown::Arguments)?;
                let count = number(text).ok_or(Unknown::Arguments)?;
                let Some(others) = count.checked_sub(1) else {
                    return Ok((begin, 1, 0));
                };
                let (first, step) = (first as usize, step as usize);
                let last = others
                    .checked_mul(step)
                    .and_then(|len| len.checked_add(first));
                rest.nth(last.ok_or(Unknown::Arguments)?)
                    .ok_or(Unknown::Arguments)?;
                Ok((begin + first, step, count))
            }
            Self::Range { last, step, limit } => {
                let last = last_of_range(rest, last, limit).ok_or(Unknown::Arguments)?;
                let step = step.max(1) as usize;
                Ok((begin, step, last / step + 1))
            }
            Self::Unknown => Err(Unknown::Specification),
        }
    }
}

/// Position of the last key in what begins with the first one, if there is such a word.
fn last_of_range<'a>(
    mut rest: impl Iterator<Item = &'a [u8]>,
    last: i32,
    limit: u32,
) -> Option<usize> {
    if let Ok(last) = usize::try_from(last) {
        return rest.nth(last).map(|_| last);
    }
    let count = rest.count();
    let part = count / limit.max(1) as usize;
    part.checked_sub(last.unsigned_abs() as usize)
}

/// Position behind a word, in any case, that is looked for from a position on.
fn position_behind<'a, I>(words: &I, word: &[u8], from: i32) -> Option<usize>
where
    I: Iterator<Item = &'a [u8]> + Clone,
{
    let is_it = |other: &&[u8]| other.eq_ignore_ascii_case(word);
    if let Ok(from) = usize::try_from(from) {
        let at = words.clone().skip(from).position(|other| is_it(&other))?;
        return Some(from + at + 1);
    }
    let end = (words.clone().count() + 1).checked_sub(from.unsigned_abs() as usize)?;
    let named = words.clone().enumerate().take(end).skip(1);
    let last = named.filter(|(_, other)| is_it(other)).last()?;
    Some(last.0 + 1)
}

/// A count in decimal digits, as strictly as a node reads it.
fn number(text: &[u8]) -> Option<usize> {
    let is_plain = text == b"0" || matches!(text.first(), Some(b'1'..=b'9'));
    str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

/// SORT: its key, and what STORE names, which the form that only reads does not know.
fn sorted<'a, 'c, I>(words: I, is_readonly: bool) -> Result<Keys<'c, I>, Unknown>
where
    I: Iterator<Item = &'a [u8]> + Clone,
{
    words.clone().nth(1).ok_or(Unknown::Arguments)?;
    let store = arguments::sort_store(words.clone()).filter(|_| !is_readonly);
    Ok(Keys {
        run: Run::new(words.clone(), 1, 1, 1),
        words,
        later: Later::At(store.unwrap_or(0)),
    })
}

/// MIGRATE: the one key, or what follows KEYS where that one is empty.
fn migrated<'a, 'c, I>(words: I) -> Result<Keys<'c, I>, Unknown>
where
    I: Iterator<Item = &'a [u8]> + Clone,
{
    let key = words.clone().nth(3).ok_or(Unknown::Arguments)?;
    let first = arguments::migrate_keys(words.clone());
    let (first, count) = match (first, key.is_empty()) {
        (Some(first), true) => (first, words.clone().skip(first).count()),
        (None, false) => (3, 1),
        _ => return Err(Unknown::Arguments),
    };
    Ok(Keys {
        run: Run::new(words.clone(), first, 1, count),
        words,
        later: Later::At(0),
    })
}
