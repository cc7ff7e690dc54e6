# Build: docker build -t tidegate .
# Run:   docker run --rm -p 3090:3090 -v "$PWD/tidegate.toml:/etc/tidegate/tidegate.toml:ro" -v tidegate-state:/var/lib/tidegate tidegate
FROM rust:1-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package tidegate && cp target/release/tidegate /tidegate

FROM debian:bookworm-slim
# The certificates are for endpoints with https.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/tidegate --create-home tidegate
COPY --from=build /tidegate /usr/local/bin/tidegate
USER 10001
WORKDIR /var/lib/tidegate
VOLUME /var/lib/tidegate
EXPOSE 3090
# `status` asks the admin API, which listens on the container's loopback by default.
HEALTHCHECK --interval=5s --timeout=3s --start-period=2s CMD ["tidegate", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tidegate"]
CMD ["serve", "-c", "/etc/tidegate/tidegate.toml"]
