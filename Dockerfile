# The agent alone: its binary, the libraries that it links, CA certificates. No shell, no
# package manager, no root.
#
#   docker build --build-arg MUSTER_REVISION="$(git rev-parse --short=12 HEAD)" -t muster .
#   docker run --read-only -v /etc/emqx/emqx.conf:/etc/emqx/emqx.conf:ro -v muster:/var/lib/muster muster
#
# For another architecture: docker buildx build --platform linux/arm64 -t muster . (the
# builder emulates or crosses; nothing in here depends on the architecture).

FROM rust:1.95-slim-bookworm AS build
# A directory of its own: a volume's own one is often writable by everybody.
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --no-install-recommends -y ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY build build
COPY src src
COPY etc etc
COPY scripts scripts
# Cargo wants to see every target that the manifest names.
COPY benches benches
COPY tests tests
# What `muster_build_info` says of it.
ARG MUSTER_REVISION=unknown
RUN cargo build --locked --release --bin muster \
 && scripts/image-root target/release/muster /image

FROM scratch
LABEL org.opencontainers.image.title="muster" \
      org.opencontainers.image.description="Cluster agent for MQTT brokers" \
      org.opencontainers.image.source="https://github.com/emqx/muster" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
ENV PATH=/usr/bin \
    EMQX_ETC_DIR=/etc/emqx \
    EMQX_NODE__DATA_DIR=/var/lib/muster/data
USER 1000:1000
# A directory of its own: a volume's own one is often writable by everybody.
WORKDIR /var/lib/muster
VOLUME /var/lib/muster
# The mesh of a node without digits in its name; the API stays on loopback.
EXPOSE 6370
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["muster", "ready", "-c", "/etc/emqx/emqx.conf"]
ENTRYPOINT ["/usr/bin/muster"]
CMD ["run", "-c", "/etc/emqx/emqx.conf"]
