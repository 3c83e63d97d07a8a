# Changes the app's `.env`, which decides what is deployed.
grep -q "^DOMAIN=" "$APP_ENV" || echo "# the harness keeps the domain" >>"$APP_ENV"
test -f "$RECIPE_DIR/compose.yml"
echo "ADDED=by-the-install-steps" >>"$APP_ENV"
