# The image of Freehold: the program on a slim Debian, without root. Needs this repository, the two base
# images and crates.io; for every platform that the base images have (`docker buildx build --platform
# linux/amd64,linux/arm64 .`).
#
#   docker build -t freehold:0.1.0 .
#   docker run -e FREEHOLD_SUPERUSER_PASSWORD=secret -v freehold:/data -p 5432:5432 freehold:0.1.0

ARG RUST_VERSION=1.95.0
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS build
# The image has this toolchain; rust-toolchain.toml would fetch its linters, too.
ARG RUST_VERSION
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
WORKDIR /src
COPY . .
# Names of functions stay for backtraces, what a debugger needs does not.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package server --bin freehold \
    && strip --strip-debug -o /freehold target/release/freehold

FROM debian:${DEBIAN}-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Freehold" \
    org.opencontainers.image.description="A distributed SQL database for PostgreSQL clients in which every table has one owner" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /freehold /usr/local/bin/freehold
RUN install -d -o 65532 -g 65532 -m 0700 /data
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENV FREEHOLD_DATA=/data \
    FREEHOLD_LISTEN=0.0.0.0:5432
# Clients, other nodes, probes and metrics.
EXPOSE 5432 7432 8080
# The program is process 1: it has no children to wait for, and SIGTERM ends it in order.
STOPSIGNAL SIGTERM
ENTRYPOINT ["freehold"]
CMD ["start"]
