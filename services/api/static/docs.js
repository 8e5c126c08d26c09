// Swagger UI on our own description, from our own server.
window.SwaggerUIBundle?.({ url: "/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null });
