# A secret whose value the tests know: wherever it turns up afterwards, it has leaked.
printf '%s' canary-secret-that-must-turn-up-nowhere0 > "$APP_SECRETS_DIR/token"
