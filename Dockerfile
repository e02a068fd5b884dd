# One image for every process; what it runs is its command (`throughline api|worker|migrate ...`).

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY requirements/base.txt requirements/build.txt requirements/
RUN python -m venv /opt/throughline \
 && /opt/throughline/bin/pip install --no-cache-dir --require-hashes -r requirements/base.txt \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/throughline/bin/pip install --no-cache-dir --no-deps dist/*.whl

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/throughline --create-home throughline
COPY --from=build /opt/throughline /opt/throughline
ENV PATH=/opt/throughline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DATA_DIR=/var/lib/throughline/data \
    MAIL_DIR=/var/lib/throughline/mail
USER throughline
WORKDIR /var/lib/throughline
EXPOSE 8080
CMD ["throughline", "api", "--host", "0.0.0.0", "--port", "8080"]
