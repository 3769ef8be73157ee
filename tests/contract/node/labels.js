// Prints the concepts of units as JSON. Knows of miclip only its .proto files.
//
// Usage: MICLIP_ENDPOINT=host:port MICLIP_API_KEY=KEY MICLIP_PROTOS=DIR node labels.js UNIT...
"use strict";

const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const { MICLIP_ENDPOINT: endpoint, MICLIP_API_KEY: key, MICLIP_PROTOS: protos } = process.env;

const definition = protoLoader.loadSync("miclip/v1/retrieval.proto", {
  includeDirs: [protos],
  keepCase: true,
  enums: String,
  defaults: true,
});
const { RetrievalService } = grpc.loadPackageDefinition(definition).miclip.v1;

const metadata = new grpc.Metadata();
metadata.set("application", "retrieval");
metadata.set("authorization", `Bearer ${key}`);

const client = new RetrievalService(endpoint, grpc.credentials.createInsecure());
const request = { units: process.argv.slice(2), top_k: 3 };
client.DescribeUnits(request, metadata, { deadline: Date.now() + 30_000 }, (error, response) => {
  client.close();
  if (error) {
    console.log(JSON.stringify({ code: error.code, details: error.details }));
    process.exitCode = 1;
  } else {
    console.log(JSON.stringify(response));
  }
});
