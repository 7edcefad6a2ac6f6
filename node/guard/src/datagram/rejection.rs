//! Why datagrams are passed over, counted by kind: a flood of them costs a few comparisons each, and is seen.

use serde::{Deserialize, Serialize};

use super::DatagramError;

macro_rules! rejections {
    ($($(#[$doc:meta])* $name:ident = $field:ident;)*) => {
        /// Why a datagram is passed over: without an effect and without an answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rejection { $($(#[$doc])* $name),* }

        impl Rejection {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable name in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($field)),* }
            }
        }

        /// How many there were of each kind.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Rejections { $($field: u64),* }

        impl Rejections {
            /// Counts one.
            pub fn count(&mut self, rejection: Rejection) {
                match rejection { $(Rejection::$name => self.$field = self.$field.saturating_add(1)),* }
            }

            /// How many there were of that kind.
            #[must_use]
            pub const fn of(&self, rejection: Rejection) -> u64 {
                match rejection { $(Rejection::$name => self.$field),* }
            }
        }
    };
}

rejections! {
    /// Not one of Muster's, or too short for one.
    Foreign = foreign;
    /// Of another version of the format.
    Version = version;
    /// It goes the other way: sent back to where it came from.
    Direction = direction;
    /// Of another cluster or incarnation.
    Cluster = cluster;
    /// Of a session that is not known here.
    Session = session;
    /// The MAC does not fit the session's key.
    Mac = mac;
    /// Too long, of an unknown kind, or with content out of range.
    Malformed = malformed;
    /// Of another node than the session's.
    Node = node;
    /// Old, or seen as often as it may be sent.
    Replayed = replayed;
}

impl From<DatagramError> for Rejection {
    fn from(error: DatagramError) -> Self {
        match error {
            DatagramError::Foreign => Self::Foreign,
            DatagramError::Version(_) => Self::Version,
            DatagramError::Direction(_) => Self::Direction,
            DatagramError::Kind(_) | DatagramError::Malformed => Self::Malformed,
            DatagramError::Tag => Self::Mac,
        }
    }
}
