// Validate H5P packages: node validate.cjs MODULES_FOLDER EXTRACTED_FOLDER ... Prints one line of JSON.
const path = require("path");
const [modules, ...folders] = process.argv.slice(2);
const server = path.join(modules, "@lumieducation", "h5p-server");
const { H5PConfig } = require(server);
const PackageValidator = require(path.join(server, "build", "src", "PackageValidator.js")).default;

(async () => {
  const validator = new PackageValidator(new H5PConfig({}), {});
  const errors = {};
  for (const folder of folders) {
    try {
      await validator.validateExtractedPackage(folder, true, false);
    } catch (error) {
      errors[folder] = (error.getErrors?.() ?? [error]).map((one) => one.message);
    }
  }
  console.log(JSON.stringify(errors));
})();
