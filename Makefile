# The usual targets; all real work is in CMakePresets.json and tools/.
#
#   make                     build/trommel
#   make demo                builds and labels examples/tickets.csv
#   make test                all tests, plain and under sanitizers
#   make install PREFIX=DIR  program, library, man page, local model
#   make nightly             the tests that take long, torture under the address sanitizer,
#                            and all under the thread sanitizer
PREFIX ?= /usr/local
Q := >/dev/null

.PHONY: all demo test install nightly clean
all:
	@tools/setup
	@cmake --log-level=NOTICE --preset release $(Q)
	@cmake --build --preset release

demo: all
	build/trommel classify examples/tickets.csv --task examples/tickets.yaml \
	    -o build/tickets-labelled.csv
	@echo
	@head -n 8 build/tickets-labelled.csv

test:
	@tools/setup --tests
	@for preset in dev asan; do \
	    cmake --log-level=NOTICE --preset $$preset $(Q) && cmake --build --preset $$preset && \
	    ctest --preset $$preset || exit 1; \
	done

nightly:
	@tools/setup --tests --fuzz
	@cmake --log-level=NOTICE --preset dev $(Q)
	@cmake --build --preset dev
	@ctest --preset nightly
	@cmake --log-level=NOTICE --preset asan $(Q)
	@cmake --build --preset asan
	@ctest --preset nightly-asan
	@cmake --log-level=NOTICE --preset tsan $(Q)
	@cmake --build --preset tsan
	@ctest --preset tsan

install:
	@tools/setup
	@cmake --log-level=NOTICE --preset release -DCMAKE_INSTALL_PREFIX=$(abspath $(patsubst ~/%,$(HOME)/%,$(PREFIX))) $(Q)
	@cmake --build --preset release
	@umask 022; cmake --install build

# Keeps what was fetched and built from elsewhere: build/_deps.
clean:
	rm -rf build-dev build-asan build-tsan
	@[ ! -e build/build.ninja ] || cmake --build build --target clean
