//! The APIs of Kafka 4.4 and what is known of each: versions, headers, where it is served.

include!(concat!(env!("OUT_DIR"), "/api_keys.rs"));

/// Where an API is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The listeners of brokers.
    Broker,
    /// The listeners of controllers.
    Controller,
}

#[derive(Debug)]
struct Api {
    key: ApiKey,
    name: &'static str,
    min: i16,
    max: i16,
    stable_max: i16,
    flexible: Option<i16>,
    response_flexible: Option<i16>,
    listeners: &'static [Listener],
}

impl ApiKey {
    /// The API with that key.
    pub fn from_i16(key: i16) -> Option<ApiKey> {
        let place = usize::try_from(key).ok()?;
        APIS.get(place)?.as_ref().map(|api| api.key)
    }

    /// The key on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    fn api(self) -> &'static Api {
        APIS[self as usize].as_ref().expect("the table has every key of the enum")
    }

    /// Kafka's name, for instance `Produce`.
    pub fn name(self) -> &'static str {
        self.api().name
    }

    /// The oldest version.
    pub fn min_version(self) -> i16 {
        self.api().min
    }

    /// The newest version that is offered to clients.
    pub fn max_version(self) -> i16 {
        self.api().stable_max
    }

    /// The newest version that exists, including one that Kafka still works on and does not offer.
    pub fn max_version_unstable(self) -> i16 {
        self.api().max
    }

    /// Is this version offered to clients?
    pub fn supports(self, version: i16) -> bool {
        self.min_version() <= version && version <= self.max_version()
    }

    /// The first version with compact lengths and tagged fields.
    pub fn first_flexible(self) -> Option<i16> {
        self.api().flexible
    }

    /// The version of the request's header. Answers for versions that do not exist, too: a header must be read before
    /// its version can be refused.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.api().flexible.is_some_and(|first| version >= first) { 2 } else { 1 }
    }

    /// The version of the response's header. That of ApiVersions is always 0 (KIP-511): a client that asks with a version
    /// unknown to the server must be able to read the refusal.
    pub fn response_header_version(self, version: i16) -> i16 {
        let flexible = self.api().response_flexible.is_some_and(|first| version >= first);
        i16::from(flexible && self != ApiKey::ApiVersions)
    }

    /// Where it is served.
    pub fn listeners(self) -> &'static [Listener] {
        self.api().listeners
    }

    /// Is it served at such listeners?
    pub fn is_served_by(self, listener: Listener) -> bool {
        self.listeners().contains(&listener)
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = i16;

    /// The API with that key; the key itself where there is none.
    fn try_from(key: i16) -> Result<ApiKey, i16> {
        ApiKey::from_i16(key).ok_or(key)
    }
}
