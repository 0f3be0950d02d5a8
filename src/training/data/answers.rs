//! Whether a passage contains an answer, as DPR's evaluation decides it (Karpukhin et al., 2020).

use unicode_normalization_alignments::UnicodeNormalization;

/// The words of a text: lower case, accents folded, runs of letters and digits; every other sign that is no white space
/// is a word of its own.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    // Marks are dropped after decomposition: é is e, however it was written.
    let folded = text.nfd().map(|(c, _)| c).filter(|&c| !is_mark(c));
    for c in folded {
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !c.is_whitespace() && !c.is_control() {
            words.push(c.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The blocks of combining marks that Latin, Greek and Cyrillic letters decompose into.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}')
}

/// Answers in the form in which passages are searched for them.
pub struct Answers(Vec<Vec<String>>);

impl Answers {
    /// Of some strings; those without a word are left out.
    pub fn new<S: AsRef<str>>(answers: &[S]) -> Answers {
        let answers = answers.iter().map(|answer| words(answer.as_ref()));
        Answers(answers.filter(|words| !words.is_empty()).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the words of one of the answers stand in a passage, one after the other. `passage` is what [`words`] makes
    /// of its text.
    pub fn in_words(&self, passage: &[String]) -> bool {
        self.0.iter().any(|answer| {
            passage
                .windows(answer.len())
                .any(|window| window == answer.as_slice())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_as_whole_words_in_any_case_and_accent() {
        let passage = words("The Café de l’Été, U.S. Route 66 (1926–1985), was  Éric's.");
        for answer in [
            "cafe",
            "CAFÉ DE",
            "cafe\u{301}",
            "u.s.",
            "Route 66",
            "1926",
            "été",
            "eric",
        ] {
            assert!(Answers::new(&[answer]).in_words(&passage), "{answer}");
        }
        for answer in ["caf", "route 6", "Route 1926", "was was", ""] {
            assert!(!Answers::new(&[answer]).in_words(&passage), "{answer}");
        }
        assert!(Answers::new(&["", "  "]).is_empty());
    }
}
