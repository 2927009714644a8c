//! SCRAM-SHA-256: verifiers in PostgreSQL's text form, the verifier of a user who doesn't exist, and
//! the server's side of the exchange (RFC 5802, RFC 7677) on top of pgwire's.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::{
    ScramSecret, ScramServerAuth, ScramServerAuthWaitingForClientFinal, gen_salted_password,
};
use pgwire::error::PgWireError;
use ring::hmac;
use rustls::pki_types::CertificateDer;

/// The mechanism without channel binding.
pub(crate) const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism that also proves that both ends see the same TLS connection.
pub(crate) const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// What PostgreSQL uses when it hashes a password.
const ITERATIONS: u32 = 4096;
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// What a server stores of a password. It proves a client without telling the password; who reads
/// it can't log in with it, but can pose as the server and guess: keep it out of logs and feeds.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// A text that isn't a verifier. Does not quote it, for it may be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SCRAM-SHA-256 verifier")]
pub struct InvalidVerifier;

impl Verifier {
    /// Hashes a password with a random salt. Takes about a millisecond of CPU.
    pub fn from_password(password: &str) -> Verifier {
        Verifier::with_salt(
            password,
            rand::random::<[u8; SALT_BYTES]>().to_vec(),
            ITERATIONS,
        )
    }

    fn with_salt(password: &str, salt: Vec<u8>, iterations: u32) -> Verifier {
        let salted = gen_salted_password(password, &salt, iterations as usize);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client_key = hmac::sign(&key, b"Client Key");
        let stored_key = ring::digest::digest(&ring::digest::SHA256, client_key.as_ref());
        Verifier {
            iterations,
            salt,
            stored_key: stored_key.as_ref().to_vec(),
            server_key: hmac::sign(&key, b"Server Key").as_ref().to_vec(),
        }
    }

    /// A verifier that no password fits, for a user who doesn't exist or may not log in: the same
    /// for the same user each time, so that the exchange tells nothing. `secret` is the server's,
    /// random and stored with the cluster.
    pub fn mock(secret: &[u8], user: &str) -> Verifier {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derive = |purpose: &str| {
            let mut context = hmac::Context::with_key(&key);
            context.update(purpose.as_bytes());
            context.update(&[0]);
            context.update(user.as_bytes());
            context.sign().as_ref().to_vec()
        };
        let mut salt = derive("salt");
        salt.truncate(SALT_BYTES);
        Verifier {
            iterations: ITERATIONS,
            salt,
            stored_key: derive("stored"),
            server_key: derive("server"),
        }
    }

    /// True if this is the verifier of `password`. Takes about a millisecond of CPU.
    pub fn fits(&self, password: &str) -> bool {
        let other = Verifier::with_salt(password, self.salt.clone(), self.iterations);
        let pairs = self.stored_key.iter().zip(&other.stored_key);
        std::hint::black_box(pairs.fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
    }

    fn secret(&self) -> ScramSecret {
        ScramSecret::Verifier {
            salt: self.salt.clone(),
            iterations: self.iterations as usize,
            stored_key: self.stored_key.clone(),
            server_key: self.server_key.clone(),
        }
    }
}

impl FromStr for Verifier {
    type Err = InvalidVerifier;

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, as in `pg_authid`.
    fn from_str(text: &str) -> Result<Verifier, InvalidVerifier> {
        let mut parts = text.split('$');
        let (Some(PLAIN), Some(head), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidVerifier);
        };
        let (iterations, salt) = head.split_once(':').ok_or(InvalidVerifier)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(InvalidVerifier)?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| InvalidVerifier);
        let verifier = Verifier {
            iterations: iterations.parse().map_err(|_| InvalidVerifier)?,
            salt: decode(salt)?,
            stored_key: decode(stored_key)?,
            server_key: decode(server_key)?,
        };
        let sound = (1..=i32::MAX as u32).contains(&verifier.iterations)
            && !verifier.salt.is_empty()
            && verifier.stored_key.len() == KEY_BYTES
            && verifier.server_key.len() == KEY_BYTES;
        if sound {
            Ok(verifier)
        } else {
            Err(InvalidVerifier)
        }
    }
}

impl fmt::Display for Verifier {
    /// PostgreSQL's text form, for storing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PLAIN}${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(&self.stored_key),
            STANDARD.encode(&self.server_key)
        )
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client's proof doesn't fit the verifier.
    Password,
    /// A message isn't SCRAM, or doesn't fit the mechanism, the nonce or the TLS connection.
    Malformed,
}

impl From<PgWireError> for Failure {
    fn from(error: PgWireError) -> Failure {
        match error {
            PgWireError::InvalidPassword(_) => Failure::Password,
            _ => Failure::Malformed,
        }
    }
}

/// The server's side of one exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    server: ScramServerAuth,
}

impl Exchange {
    /// With the server's certificate if the connection is encrypted. Channel binding is offered
    /// only for certificates whose signature has a hash of its own (not Ed25519; RFC 5929).
    pub fn new(certificate: Option<&CertificateDer<'_>>) -> Exchange {
        let mut server = ScramServerAuth::new();
        if let Some(certificate) = certificate {
            let body = STANDARD.encode(certificate);
            let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            if let Err(error) = server.configure_certificate(pem.as_bytes()) {
                tracing::debug!(%error, "no channel binding with this certificate");
            }
        }
        Exchange { server }
    }

    /// The mechanisms to offer, the stronger first.
    pub fn mechanisms(&self) -> Vec<String> {
        let plus = self.server.supports_channel_binding().then_some(PLUS);
        plus.into_iter().chain([PLAIN]).map(str::to_owned).collect()
    }

    /// Takes client-first; gives server-first and what awaits client-final.
    pub fn first(
        &self,
        mechanism: &str,
        client_first: &[u8],
        verifier: &Verifier,
    ) -> Result<(String, ScramServerAuthWaitingForClientFinal), Failure> {
        // pgwire doesn't compare the mechanism with the message: binding iff PLUS.
        let binds = client_first.starts_with(b"p=");
        let offered = match mechanism {
            PLUS => self.server.supports_channel_binding() && binds,
            PLAIN => !binds,
            _ => false,
        };
        if !offered {
            return Err(Failure::Malformed);
        }
        Ok(self
            .server
            .on_client_first_message_with_secret(client_first, verifier.secret())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_survives_its_text_form() {
        let verifier = Verifier::from_password("pencil");
        let text = verifier.to_string();
        assert!(text.starts_with("SCRAM-SHA-256$4096:"));
        assert_eq!(text.parse::<Verifier>().unwrap(), verifier);
        assert!(verifier.fits("pencil"));
        assert!(!verifier.fits("Pencil"));
        assert_ne!(Verifier::from_password("pencil"), verifier);
        assert_eq!(format!("{verifier:?}"), "Verifier { iterations: 4096, .. }");
    }

    #[test]
    fn postgresql_made_this_one() {
        // PostgreSQL 15: ALTER ROLE ... PASSWORD 'secret'; SELECT rolpassword FROM pg_authid.
        let text = "SCRAM-SHA-256$4096:dVwSacJX4pQ1kK4u8U++3Q==$\
                    /65p3O1Ywt68Igp2V40NH1pdBfo9IhMrwC4zmCbXSfs=:\
                    gtlCnn8IytvJEjIKA5CEtzQuzsbc/lqDMItsw11tFSc=";
        let verifier: Verifier = text.parse().unwrap();
        assert!(verifier.fits("secret"));
        assert_eq!(verifier.to_string(), text);
    }

    #[test]
    fn other_texts_are_refused() {
        let good = Verifier::from_password("x").to_string();
        for bad in [
            "",
            "secret",
            "md5d8578edf8458ce06fbc5bb76a58c5ca4",
            &good.replace("4096", "0"),
            &good.replace("4096", "-1"),
            &good.replace("SHA-256", "SHA-1"),
            &good.replace(':', ";"),
            &good[..good.len() - 4],
            &format!("{good}$"),
        ] {
            assert_eq!(bad.parse::<Verifier>(), Err(InvalidVerifier), "{bad}");
        }
    }

    #[test]
    fn a_mock_is_stable_and_looks_real() {
        let mock = Verifier::mock(b"server secret", "nobody");
        assert_eq!(mock, Verifier::mock(b"server secret", "nobody"));
        assert_ne!(mock, Verifier::mock(b"server secret", "anybody"));
        assert_ne!(mock, Verifier::mock(b"other secret", "nobody"));
        assert_eq!(
            mock.to_string().len(),
            Verifier::from_password("x").to_string().len()
        );
        assert!(!mock.fits(""));
    }
}
