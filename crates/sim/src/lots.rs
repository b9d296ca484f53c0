//! Stories told by lot, one after the other, until one breaks a promise.

/// The first of `most` seeds whose run breaks a promise, and what it says. An assertion of the code is as good as a broken promise.
pub fn first_broken(most: u64, run: impl Fn(u64) -> Result<(), String>) -> Option<(u64, String)> {
    let told = std::panic::AssertUnwindSafe(run);
    (0..most).find_map(|seed| match std::panic::catch_unwind(|| told(seed)) {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some((seed, broken)),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("");
            Some((seed, format!("an assertion: {text}")))
        }
    })
}
