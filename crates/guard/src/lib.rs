//! Load-bearing conditions by name, so that a test can take one away and show that it is missed.
//!
//! The tricky idea: a removed guard belongs to a thread, so tests beside one another do not disturb each other; and the macro asks for the
//! feature `mutations` of the crate that uses it, so that in a product, which never enables it, every question is answered at compile time.

/// Declares guards: an enum, a list of those that belong together for each name in capitals, and how a test removes one.
///
/// ```
/// ottla_guard::guards! {
///     /// What must not be forgotten.
///     pub enum Guard {
///         /// All of them.
///         ALL {
///             /// A vote is given once in an epoch.
///             VoteOnce,
///         }
///     }
/// }
/// assert!(Guard::VoteOnce.stands() && !Guard::VoteOnce.holds(false));
/// assert_eq!(Guard::ALL.len(), 1);
/// ```
#[macro_export]
macro_rules! guards {
    (
        $(#[$meta:meta])* pub enum $name:ident {
            $( $(#[$list_meta:meta])* $list:ident { $( $(#[$guard_meta:meta])* $guard:ident, )+ } )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($( $(#[$guard_meta])* $guard, )+)+
        }

        impl $name {
            $( $(#[$list_meta])* #[allow(dead_code)] pub const $list: &'static [$name] = &[$($name::$guard),+]; )+

            /// Whether the guard is in its place.
            #[cfg(not(feature = "mutations"))]
            #[inline(always)]
            #[allow(dead_code)]
            pub(crate) fn stands(self) -> bool {
                true
            }

            /// Whether the guard is in its place.
            #[cfg(feature = "mutations")]
            #[allow(dead_code)]
            pub(crate) fn stands(self) -> bool {
                REMOVED.get() != Some(self)
            }

            /// The condition, which counts as met while the guard is removed.
            #[inline(always)]
            #[allow(dead_code)]
            pub(crate) fn holds(self, condition: bool) -> bool {
                condition || !self.stands()
            }

            /// Removes this guard, on this thread, until another one is removed or all are restored.
            #[cfg(feature = "mutations")]
            pub fn remove(self) {
                REMOVED.set(Some(self));
            }

            /// All guards are in their places again.
            #[cfg(feature = "mutations")]
            pub fn restore() {
                REMOVED.set(None);
            }
        }

        #[cfg(feature = "mutations")]
        ::std::thread_local! {
            static REMOVED: ::std::cell::Cell<Option<$name>> = const { ::std::cell::Cell::new(None) };
        }
    };
}
