//! Wires everything: state directory, keys, store, listeners, scheduler; runs until a signal; shuts down in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use inshore_trust::random_bytes;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::channel::{self, Registry};
use crate::config::Settings;
use crate::job::Jobs;
use crate::keys::{self, ApiKey, Keys};
use crate::package::Packages;
use crate::store::{self, Store};
use crate::tasks::Tasks;
use crate::time::Timestamp;
use crate::{api, enrolment, server, tls, web};

/// What requests in flight get before the process ends.
const GRACE: Duration = Duration::from_secs(10);

/// A control plane that cannot start or stops with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Keys(#[from] keys::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("listen for signals")]
    Signal(#[source] std::io::Error),
}

/// What handlers and sessions share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) packages: Packages,
    pub(crate) sessions: Arc<Registry>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) setup_tests: api::SetupTests,
    pub(crate) tasks: Tasks,
    /// What join tokens name.
    pub(crate) public_url: String,
}

/// A control plane that serves.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) app: Arc<App>,
    pub(crate) https: SocketAddr,
    pub(crate) http: Option<SocketAddr>,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(settings: Settings) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
        let running = Box::pin(start(settings)).await?;
        let http = running.http.map(tracing::field::display);
        tracing::info!(https = %running.https, http, "control plane serves");
        notify(sd_notify::NotifyState::Ready);
        let mut watchdog = tokio::time::interval(WATCHDOG);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = watchdog.tick() => notify(sd_notify::NotifyState::Watchdog),
            }
        }
        notify(sd_notify::NotifyState::Stopping);
        running.stop().await;
        Ok(())
    })
}

/// How often systemd hears that we live; its unit waits 30 s.
const WATCHDOG: Duration = Duration::from_secs(10);

/// Tells systemd, where it asked to be told.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}

/// Brings everything up and returns once it serves.
pub(crate) async fn start(settings: Settings) -> Result<Running, Error> {
    let now = Timestamp::now();
    keys::create_dir(&settings.state_dir)?;
    let keys = Keys::open(&settings.state_dir, now)?;
    let acceptor = tls::acceptor(&settings.tls, &settings.state_dir)?;
    let store = Store::open(&settings.state_dir.join("control.sqlite")).await?;
    first_key(&store, &settings.state_dir.join("api_key"), now).await?;
    let packages = Packages::open(settings.state_dir.join("packages"))?;

    let (https_listener, https) = listen(settings.listen.https).await?;
    let http_listener = match settings.listen.http {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let http = http_listener.as_ref().map(|(_, address)| *address);

    let sessions = Arc::new(Registry::default());
    let jobs = Arc::new(Jobs::new(store.clone(), Arc::clone(&sessions)));
    jobs.resume(now).await?;
    api::resume_setup_tests(&store).await?;
    let public_url = settings.public_url.unwrap_or_else(|| format!("wss://{https}"));
    let (setup_tests, tasks) = (api::SetupTests::default(), Tasks::default());
    let app = Arc::new(App { store, keys, packages, sessions, jobs, setup_tests, tasks, public_url });

    app.tasks.spawn("jobs", Arc::clone(&app.jobs).run(app.tasks.clone()));
    let secure = server::Server { listener: https_listener, acceptor: Some(acceptor), router: router(&app, true) };
    app.tasks.spawn("https", secure.run(app.tasks.clone()));
    if let Some((listener, _)) = http_listener {
        let plain = server::Server { listener, acceptor: None, router: router(&app, false) };
        app.tasks.spawn("http", plain.run(app.tasks.clone()));
    }
    if let Some(path) = &settings.port_file {
        let ports = serde_json::json!({"https": https.port(), "http": http.map(|address| address.port())});
        keys::write_private(path, ports.to_string().as_bytes())?;
    }
    Ok(Running { app, https, http })
}

impl Running {
    /// No new requests, then the sessions close, then the store.
    pub(crate) async fn stop(self) {
        if tokio::time::timeout(GRACE, self.app.tasks.stop()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        self.app.store.close().await;
        tracing::info!("control plane stopped");
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The key an operator finds in the state directory; the store gets a salted hash. The file is written first: a crash in
/// between makes a new key, not a key nobody knows.
async fn first_key(store: &Store, path: &Path, now: Timestamp) -> Result<(), Error> {
    if store.has_api_key().await? {
        return Ok(());
    }
    let key = ApiKey::generate();
    let text = zeroize::Zeroizing::new(format!("{}:{}", key.id, key.secret.as_str()));
    keys::write_private(path, text.as_bytes())?;
    let salt = random_bytes::<16>();
    store.add_api_key(&key.id, &salt, &ApiKey::hash(&key.secret, &salt), now).await?;
    Ok(())
}

/// REST and dashboard; the agents' sockets only where there is TLS.
fn router(app: &Arc<App>, secure: bool) -> Router {
    let mut router = api::routes(app).merge(web::routes(app));
    if secure {
        router = router.route("/v1/agent/channel", get(agent_channel)).route("/v1/agent/enrol", get(agent_enrolment));
    }
    router.fallback(api::not_found).method_not_allowed_fallback(api::method_not_allowed).with_state(Arc::clone(app))
}

async fn agent_channel(State(app): State<Arc<App>>, mut request: Request) -> Response {
    match channel::upgrade(&mut request) {
        Ok((response, upgrade)) => {
            app.tasks.spawn("session", channel::serve(Arc::clone(&app), upgrade));
            response
        }
        Err(error) => error.into_response(),
    }
}

async fn agent_enrolment(State(app): State<Arc<App>>, mut request: Request) -> Response {
    match channel::upgrade(&mut request) {
        Ok((response, upgrade)) => {
            app.tasks.spawn("enrolment", enrolment::serve(Arc::clone(&app), upgrade));
            response
        }
        Err(error) => error.into_response(),
    }
}
