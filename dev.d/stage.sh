# shellcheck shell=bash
# Compiles the product and lays it out as it is installed: target/stage/usr/{bin,lib}.

# build_stage [demo|test|release]: the first two carry the fail points of the crash tests, the release does not. `test`
# compiles the tests in the same go, so that features are resolved once and nothing is compiled twice.
build_stage() {
  local kind=${1:-demo} profile=debug target=${CARGO_TARGET_DIR:-target}
  local products=(-p inshore-agent -p inshore-control-plane -p inshore-sdk-native)
  say "building ($kind)"
  case "$kind" in
    demo) cargo build "${products[@]}" --features inshore-agent/fail-points ;;
    test) cargo build --workspace --all-targets --features inshore-agent/fail-points ;;
    release) profile=release; cargo build "${products[@]}" --release ;;
  esac
  STAGE="$PWD/target/stage"
  [ "$profile" = release ] && STAGE="$PWD/target/stage-release"
  rm -rf "$STAGE"
  mkdir -p "$STAGE/usr/bin" "$STAGE/usr/lib/inshore/sdk"
  cp "$target/$profile/inshore" "$target/$profile/inshore-control" "$STAGE/usr/bin/"
  cp -r sdk/python/. "$STAGE/usr/lib/inshore/sdk/"
  cp "$target/$profile/lib_inshore.so" "$STAGE/usr/lib/inshore/sdk/_inshore.abi3.so"
  "$STAGE/usr/bin/inshore" sdk-letters > "$STAGE/usr/lib/inshore/sdk/inshore_encoder/letters.txt"
  find "$STAGE" -name __pycache__ -prune -exec rm -rf {} +
  export STAGE
}

# The same product without the native module: its connectors' rows are encoded in Python.
python_stage() {
  rm -rf "$STAGE-python"
  cp -r "$STAGE" "$STAGE-python"
  rm "$STAGE-python/usr/lib/inshore/sdk/_inshore.abi3.so"
}
