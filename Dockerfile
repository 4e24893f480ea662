# The agent alone: about 100 MB, of which the agent is a seventh.
# `docker build -t muster .`, then mount a configuration at /etc/emqx/emqx.conf.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY build build
COPY src src
COPY etc etc
# Cargo wants to see every target that the manifest names.
COPY benches benches
COPY tests tests
RUN cargo build --locked --release --bin muster

FROM debian:12-slim
RUN apt-get update \
 && apt-get install --no-install-recommends -y ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 1000 emqx \
 && useradd --system --uid 1000 --gid emqx --home-dir /var/lib/muster --create-home emqx
COPY --from=build /src/target/release/muster /usr/bin/muster
COPY etc /etc/emqx
ENV EMQX_ETC_DIR=/etc/emqx \
    EMQX_NODE__DATA_DIR=/var/lib/muster/data
USER emqx
WORKDIR /var/lib/muster
VOLUME /var/lib/muster
# The mesh of a node without digits in its name; the API stays on loopback.
EXPOSE 6370
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["muster", "ready", "-c", "/etc/emqx/emqx.conf"]
ENTRYPOINT ["muster"]
CMD ["run", "-c", "/etc/emqx/emqx.conf"]
