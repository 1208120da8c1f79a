# The front door. Meson and ninja build; tools/ holds what each target does.
.DEFAULT_GOAL := help
.PHONY: build run test test-long bench lint fmt install clean help

BUILD_DIR := build/meson
PREFIX ?= /usr/local

build: ## Build the program: build/backapp (WERROR=1: warnings are errors, CC=clang: another compiler)
	@tools/setup
	@tools/build --program

run: build ## Back up a real directory in two stages, and archive it (SOURCE=/some/dir DEST=/some/dir S3=s3://bucket/prefix for your own)
	@SOURCE='$(SOURCE)' DEST='$(DEST)' S3='$(S3)' tools/run-demo

test: ## Run all tests in their short form
	@tools/setup --test
	@tools/build
	@tools/run-tests --builddir $(BUILD_DIR)

test-long: ## Run all tests in their long form (an hour or more)
	@tools/setup --test
	@tools/build
	@tools/run-tests --builddir $(BUILD_DIR) --long

bench: ## Measure against rsync, cp, rclone, aws-cli, tar, pigz and zstd, side by side
	@tools/setup --bench
	@tools/build --program
	@bench/run
	@bench/s3
	@bench/archive

lint: ## Check format, layers, headers, scripts and what static analysis finds
	@tools/setup --lint
	@tools/lint

fmt: ## Format all C files
	@tools/setup --lint
	@git ls-files -z --cached --others --exclude-standard -- '*.c' '*.h' | xargs -0 clang-format -i

install: ## Install to PREFIX (/usr/local), below DESTDIR if that is set
	@tools/setup
	@tools/build --program --prefix '$(PREFIX)'
	@meson install -C $(BUILD_DIR) --no-rebuild

clean: ## Remove everything that was built
	@rm -rf build

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
