//! A pattern as an automaton whose states are made while values are read. It goes byte by byte, so
//! that it can be stopped within a value, and counts what its states cost, so that all patterns of
//! a request together have an end.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, meta};
use regex_syntax::hir::Hir;

use crate::{Pace, Stopped};

/// What one step costs in units beside the state that it makes.
const STEP_UNITS: usize = 64;

/// What a value may cost where automata of this kind are not enough: states times bytes.
const WORD_UNITS_MAX: usize = 1 << 20;

/// A compiled pattern.
pub(crate) struct Automaton {
    dfa: Arc<DFA>,
    memories: Pool<Memory, Box<MakeMemory>>,
    /// For values with letters beyond ASCII, if there are word boundaries in the pattern.
    with_words: Option<meta::Regex>,
}

type MakeMemory = dyn Fn() -> Memory + Send + Sync + UnwindSafe + RefUnwindSafe;

/// The states made so far, and what they cost.
struct Memory {
    cache: Cache,
    /// What the last new state took. Bytes.
    state_bytes: usize,
    /// How often there was no more room and all states were forgotten.
    clears: usize,
}

/// Why a pattern is not compiled.
pub(super) enum Refused {
    TooLarge,
    Wrong(String),
}

/// What a compiled pattern takes, at most. Bytes.
pub(super) struct Sizes {
    pub(super) program_max: usize,
    pub(super) cache_max: usize,
}

impl Automaton {
    /// Compiles `whole`, which has anchors at both ends.
    pub(super) fn new(whole: &Hir, sizes: &Sizes) -> Result<Self, Refused> {
        let config = thompson::Config::new().nfa_size_limit(Some(sizes.program_max));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(whole);
        let nfa = nfa.map_err(|e| match e.size_limit() {
            Some(_) => Refused::TooLarge,
            None => Refused::Wrong(e.to_string()),
        })?;
        let words = whole.properties().look_set().contains_word_unicode();
        let config = DFA::config()
            .unicode_word_boundary(words)
            .cache_capacity(sizes.cache_max)
            .skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa);
        let dfa = Arc::new(dfa.map_err(|e| Refused::Wrong(e.to_string()))?);
        let with_words = if words { Some(regex_of(whole, sizes)?) } else { None };
        let making = Arc::clone(&dfa);
        let make: Box<MakeMemory> = Box::new(move || Memory::new(&making));
        Ok(Self { dfa, memories: Pool::new(make), with_words })
    }

    /// What it takes. Bytes, without what matching keeps at hand.
    pub(super) fn program_bytes(&self) -> usize {
        let regex_bytes = self.with_words.as_ref().map_or(0, meta::Regex::memory_usage);
        self.dfa.get_nfa().memory_usage() + regex_bytes
    }

    /// What matching may keep at hand on each thread. Bytes.
    pub(super) fn cache_bytes(&self) -> usize {
        // Never less than what the program's size calls for, whatever was asked for.
        let least = self.dfa.get_config().get_minimum_cache_capacity(self.dfa.get_nfa());
        self.dfa.get_config().get_cache_capacity().max(least.unwrap_or(0))
    }

    /// Whether a value matches, however long that takes.
    pub(super) fn matches(&self, value: &str) -> bool {
        let found = self.run(value, &mut |_| Ok(()));
        match (found, &self.with_words) {
            (Ok(Some(found)), _) => found,
            (_, Some(regex)) => regex.is_match(value),
            // Without limits it fails nowhere else.
            (_, None) => false,
        }
    }

    /// Whether a value matches, as long as somebody waits and there is work left.
    pub(super) fn matches_at(&self, value: &str, pace: &mut Pace) -> Result<bool, Stopped> {
        if pace.is_endless() {
            return Ok(self.matches(value));
        }
        pace.work(4 + value.len() / 8)?;
        let found = self.run(value, &mut |units| pace.labor(units))?;
        match (found, &self.with_words) {
            (Some(found), _) => Ok(found),
            (None, Some(regex)) => {
                let units = self.dfa.get_nfa().states().len().saturating_mul(value.len());
                if units > WORD_UNITS_MAX {
                    return Err(Stopped::Laborious);
                }
                pace.labor(units / 8)?;
                Ok(regex.is_match(value))
            }
            (None, None) => Err(Stopped::Laborious),
        }
    }

    /// Goes through a value; `None` where this kind of automaton cannot say. `spend` is told what
    /// each new state costs.
    fn run(
        &self,
        value: &str,
        spend: &mut dyn FnMut(usize) -> Result<(), Stopped>,
    ) -> Result<Option<bool>, Stopped> {
        let mut memory = self.memories.get();
        let Memory { cache, state_bytes, clears } = &mut *memory;
        if *clears != cache.clear_count() {
            *clears = cache.clear_count();
            spend(*state_bytes)?;
        }
        let input = Input::new(value).anchored(Anchored::Yes);
        let Ok(mut state) = self.dfa.start_state_forward(cache, &input) else { return Ok(None) };
        for &byte in value.as_bytes() {
            if !state.is_tagged() {
                let next = self.dfa.next_state_untagged(cache, state, byte);
                if !next.is_unknown() {
                    state = next;
                    continue;
                }
            } else if state.is_dead() {
                return Ok(Some(false));
            } else if state.is_quit() {
                return Ok(None);
            }
            let before = cache.memory_usage();
            let Ok(next) = self.dfa.next_state(cache, state, byte) else { return Ok(None) };
            state = next;
            if let Some(grown) = cache.memory_usage().checked_sub(before).filter(|g| *g > 0) {
                *state_bytes = grown;
            }
            spend(STEP_UNITS + *state_bytes)?;
        }
        if state.is_quit() {
            return Ok(None);
        }
        match self.dfa.next_eoi_state(cache, state) {
            Ok(end) => Ok(Some(end.is_match())),
            Err(_) => Ok(None),
        }
    }
}

impl Memory {
    fn new(dfa: &DFA) -> Self {
        Self { cache: dfa.create_cache(), state_bytes: 0, clears: 0 }
    }
}

/// The library's own choice of means.
fn regex_of(whole: &Hir, sizes: &Sizes) -> Result<meta::Regex, Refused> {
    let config = meta::Config::new()
        .nfa_size_limit(Some(sizes.program_max))
        .hybrid_cache_capacity(sizes.cache_max)
        // Only finds captures quicker, and nobody asks for them.
        .onepass(false)
        // Keeps a bit for each state and byte at hand.
        .backtrack(false);
    let regex = meta::Builder::new().configure(config).build_from_hir(whole);
    regex.map_err(|e| match e.size_limit() {
        Some(_) => Refused::TooLarge,
        None => Refused::Wrong(e.to_string()),
    })
}

impl fmt::Debug for Automaton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Automaton").field("bytes", &self.program_bytes()).finish_non_exhaustive()
    }
}
